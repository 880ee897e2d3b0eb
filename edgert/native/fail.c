#include <stdarg.h>
#include <stdlib.h>

#include "program.h"

const char *program_name = "edgert-run";

void fail(int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "%s: ", program_name);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(code);
}
