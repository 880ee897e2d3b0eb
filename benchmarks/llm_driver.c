// Drives llama.cpp for benchmarks/llm.py: one command a line in, one line of JSON out. benchmarks/llm_worker.py answers
// the same commands with edgert.
//
//   driver MODEL THREADS CONTEXT REPACK
//     prefill N         empty the cache, run N tokens         {"ns": .., "cpu_ns": ..}
//     decode PAST N     N tokens one by one behind PAST       {"ns": [..], "cpu_ns": [..]}
//     first TEXT        the prompt's ids, the token after it  {"ids": [..], "token": .., "cpu_ns": since the process began}
//     nll FILE          int32: size of a window, then windows {"nll": .., "tokens": ..}: their second halves, in nats
//     greedy N FILE     N tokens after the int32 in FILE      {"tokens": [..], "ns": ..}
//     memory            most memory held so far               {"bytes": ..}
#include <llama.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE = 1 << 16, BATCH = 512 };

static struct llama_context *context;
static const struct llama_vocab *vocab;
static int width;

static long long now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void quiet(enum ggml_log_level level, const char *text, void *data) {
    (void) data;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static void run(llama_token *ids, int count) {
    for (int at = 0; at < count; at += BATCH) {
        int some = count - at < BATCH ? count - at : BATCH;
        if (llama_decode(context, llama_batch_get_one(ids + at, some))) {
            fputs("llama_decode failed\n", stderr);
            exit(1);
        }
    }
}

static void forget(int past) {
    llama_memory_seq_rm(llama_get_memory(context), 0, past, -1);
}

// The same made-up tokens as llm_worker.py gives.
static llama_token *made_up(int count) {
    llama_token *ids = malloc(sizeof *ids * (count + 1));
    for (int i = 0; i <= count; i++) ids[i] = (int) ((i * 7919LL + 100) % 30000);
    return ids;
}

static void prefill(int count) {
    llama_token *ids = made_up(count);
    llama_memory_clear(llama_get_memory(context), true);
    long long start = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
    run(ids, count);
    volatile float first = llama_get_logits_ith(context, -1)[0];
    (void) first;
    printf("{\"ns\": %lld, \"cpu_ns\": %lld}\n", now(CLOCK_MONOTONIC) - start, now(CLOCK_PROCESS_CPUTIME_ID) - used);
    free(ids);
}

static void print_times(const long long *ns, int count) {
    for (int part = 0; part < 2; part++) {
        printf(part ? "], \"cpu_ns\": [" : "{\"ns\": [");
        for (int i = 0; i < count; i++) printf("%s%lld", i ? ", " : "", ns[part * count + i]);
    }
}

static void decode(int past, int count) {
    llama_token *ids = made_up(past + count);
    long long *ns = malloc(sizeof *ns * 2 * count);
    llama_memory_clear(llama_get_memory(context), true);
    run(ids, past);
    llama_synchronize(context);
    for (int i = 0; i < count; i++) {
        long long start = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
        run(ids + past + i, 1);
        volatile float first = llama_get_logits_ith(context, -1)[0];
        (void) first;
        ns[i] = now(CLOCK_MONOTONIC) - start;
        ns[count + i] = now(CLOCK_PROCESS_CPUTIME_ID) - used;
    }
    print_times(ns, count);
    puts("]}");
    free(ids);
    free(ns);
}

static int best(const float *logits) {
    int top = 0;
    for (int i = 1; i < width; i++) if (logits[i] > logits[top]) top = i;
    return top;
}

static void first(const char *text) {
    static llama_token ids[LINE];
    int count = llama_tokenize(vocab, text, (int) strlen(text), ids, LINE, true, true);
    llama_memory_clear(llama_get_memory(context), true);
    run(ids, count);
    int token = best(llama_get_logits_ith(context, -1));
    printf("{\"cpu_ns\": %lld, \"token\": %d, \"ids\": [", now(CLOCK_PROCESS_CPUTIME_ID), token);
    for (int i = 0; i < count; i++) printf("%s%d", i ? ", " : "", ids[i]);
    puts("]}");
}

static llama_token *read_ids(const char *path, int *count) {
    FILE *file = fopen(path, "rb");
    if (!file) exit(2);
    fseek(file, 0, SEEK_END);
    *count = (int) (ftell(file) / 4);
    rewind(file);
    llama_token *ids = malloc(4 * (size_t) *count);
    if (fread(ids, 4, *count, file) != (size_t) *count) exit(2);
    fclose(file);
    return ids;
}

static double loss(const float *logits, int token) {
    float top = logits[best(logits)];
    double sum = 0;
    for (int i = 0; i < width; i++) sum += expf(logits[i] - top);
    return log(sum) + top - logits[token];
}

static void nll(const char *path) {
    int count, size, scored = 0;
    llama_token *ids = read_ids(path, &count);
    double total = 0;
    size = ids[0];
    struct llama_batch batch = llama_batch_init(size, 0, 1);
    for (llama_token *window = ids + 1; window + size <= ids + count; window += size) {
        llama_memory_clear(llama_get_memory(context), true);
        batch.n_tokens = size;
        for (int i = 0; i < size; i++) {
            batch.token[i] = window[i];
            batch.pos[i] = i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = i >= size / 2 && i < size - 1;
        }
        if (llama_decode(context, batch)) exit(1);
        for (int i = size / 2; i < size - 1; i++, scored++) total += loss(llama_get_logits_ith(context, i), window[i + 1]);
    }
    printf("{\"nll\": %.9g, \"tokens\": %d}\n", total, scored);
    llama_batch_free(batch);
    free(ids);
}

static void greedy(int wanted, const char *path) {
    int count;
    llama_token *ids = read_ids(path, &count), *made = malloc(sizeof *made * (wanted + 1));
    long long *ns = malloc(sizeof *ns * 2 * wanted);
    llama_memory_clear(llama_get_memory(context), true);
    run(ids, count);
    made[0] = best(llama_get_logits_ith(context, -1));
    for (int i = 1; i <= wanted; i++) {
        long long start = now(CLOCK_MONOTONIC), used = now(CLOCK_PROCESS_CPUTIME_ID);
        run(made + i - 1, 1);
        made[i] = best(llama_get_logits_ith(context, -1));
        ns[i - 1] = now(CLOCK_MONOTONIC) - start;
        ns[wanted + i - 1] = now(CLOCK_PROCESS_CPUTIME_ID) - used;
    }
    print_times(ns, wanted);
    printf("], \"tokens\": [");
    for (int i = 0; i <= wanted; i++) printf("%s%d", i ? ", " : "", made[i]);
    puts("]}");
    free(ids);
    free(made);
    free(ns);
}

static void memory(void) {
    char line[256];
    long long kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file)) sscanf(line, "VmHWM: %lld", &kilobytes);
    printf("{\"bytes\": %lld}\n", kilobytes * 1024);
    if (file) fclose(file);
}

int main(int argc, char **argv) {
    static char line[LINE], word[LINE];
    int a, b;
    if (argc != 5) return 2;
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model_params model = llama_model_default_params();
    model.use_extra_bufts = atoi(argv[4]);
    struct llama_model *loaded = llama_model_load_from_file(argv[1], model);
    if (!loaded) return 1;
    vocab = llama_model_get_vocab(loaded);
    width = llama_vocab_n_tokens(vocab);
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = atoi(argv[3]);
    params.n_batch = params.n_ubatch = BATCH;
    params.n_threads = params.n_threads_batch = atoi(argv[2]);
    context = llama_init_from_model(loaded, params);
    if (!context) return 1;
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "prefill %d", &a) == 1) prefill(a);
        else if (sscanf(line, "decode %d %d", &a, &b) == 2) decode(a, b);
        else if (sscanf(line, "greedy %d %s", &a, word) == 2) greedy(a, word);
        else if (sscanf(line, "nll %s", word) == 1) nll(word);
        else if (!strncmp(line, "first ", 6)) first(line + 6);
        else if (!strcmp(line, "memory")) memory();
        else return 2;
        fflush(stdout);
    }
    return 0;
}
