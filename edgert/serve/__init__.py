"""An HTTP server that speaks OpenAI's protocol, over one language model (the extra `serve`)."""
