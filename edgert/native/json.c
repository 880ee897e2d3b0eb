#include "json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_DEPTH = 64, MOST_NUMBER = 40 };

typedef struct {
  const char *at, *end, *fault;
  json *node; /* the next free one */
  char *text; /* where the next text goes */
} reader;

size_t json_nodes(const char *text, size_t size) {
  size_t count = 2; /* every value but the first follows one of these */
  for (size_t i = 0; i < size; i++) count += text[i] == ',' || text[i] == ':' || text[i] == '[';
  return count;
}

static json *wrong(reader *r, const char *fault) {
  if (!r->fault) r->fault = fault;
  return NULL;
}

static void space(reader *r) {
  while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')) r->at++;
}

static int take(reader *r, const char *word) {
  size_t length = strlen(word);
  if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length)) return 0;
  r->at += length;
  return 1;
}

/* Four hexadecimal digits, or -1. */
static int32_t hexadecimal(reader *r) {
  int32_t value = 0;
  if (r->end - r->at < 4) return -1;
  for (int i = 0; i < 4; i++, r->at++) {
    char c = *r->at;
    int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
    if (digit < 0) return -1;
    value = value << 4 | digit;
  }
  return value;
}

static void put(reader *r, uint32_t point) {
  if (point < 0x80) *r->text++ = (char)point;
  else {
    int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    *r->text++ = (char)((0xF0 << (3 - more) & 0xFF) | point >> (6 * more));
    while (more--) *r->text++ = (char)(0x80 | (point >> (6 * more) & 0x3F));
  }
}

/* A character of several bytes (Unicode, table 3-7). 0 when it is none. */
static int character(reader *r) {
  const uint8_t *c = (const uint8_t *)r->at;
  int more = c[0] >= 0xF0 ? 3 : c[0] >= 0xE0 ? 2 : 1;
  if (c[0] < 0xC2 || c[0] > 0xF4 || r->end - r->at <= more) return 0;
  uint8_t low = c[0] == 0xE0 ? 0xA0 : c[0] == 0xF0 ? 0x90 : 0x80, high = c[0] == 0xED ? 0x9F : c[0] == 0xF4 ? 0x8F : 0xBF;
  if (c[1] < low || c[1] > high) return 0;
  for (int i = 2; i <= more; i++)
    if (c[i] >> 6 != 2) return 0;
  memcpy(r->text, c, more + 1);
  r->text += more + 1;
  r->at += more + 1;
  return 1;
}

static int escape(reader *r) {
  static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
  if (r->at == r->end) return 0;
  char c = *r->at++;
  const char *known = c ? strchr(names, c) : NULL;
  if (known) return *r->text++ = values[known - names], 1;
  if (c != 'u') return 0;
  int32_t point = hexadecimal(r);
  if (point >= 0xD800 && point < 0xDC00) { /* the first of a pair */
    int32_t second = take(r, "\\u") ? hexadecimal(r) : -1;
    if (second < 0xDC00 || second > 0xDFFF) return 0;
    point = 0x10000 + ((point - 0xD800) << 10) + (second - 0xDC00);
  } else if (point >= 0xDC00 && point <= 0xDFFF) return 0;
  if (point <= 0) return 0;
  put(r, (uint32_t)point);
  return 1;
}

/* A text behind its first quote. */
static const char *string(reader *r) {
  const char *start = r->text;
  while (r->at < r->end && *r->at != '"') {
    uint8_t c = (uint8_t)*r->at;
    if (c == '\\') {
      r->at++;
      if (!escape(r)) return wrong(r, "a text has an escape that means nothing"), NULL;
    } else if (c < 0x20) return wrong(r, "a text has a control character"), NULL;
    else if (c < 0x80) *r->text++ = *r->at++;
    else if (!character(r)) return wrong(r, "a text is not UTF-8"), NULL;
  }
  if (r->at == r->end) return wrong(r, "a text does not end"), NULL;
  r->at++;
  *r->text++ = 0;
  return start;
}

static json *number(reader *r, json *made) {
  char copy[MOST_NUMBER + 1];
  size_t length = 0;
  int real = 0;
  while (r->at < r->end && length < MOST_NUMBER && *r->at && strchr("+-.0123456789eE", *r->at)) {
    real |= strchr(".eE", *r->at) != NULL;
    copy[length++] = *r->at++;
  }
  copy[length] = 0;
  const char *digits = copy + (*copy == '-');
  if (*digits < '0' || *digits > '9' || (*digits == '0' && digits[1] >= '0' && digits[1] <= '9') ||
      copy[length - 1] < '0' || copy[length - 1] > '9' || strstr(copy, ".e") || strstr(copy, ".E"))
    return wrong(r, "a value is none");
  char *end;
  errno = 0;
  made->kind = real ? JSON_REAL : JSON_INTEGER;
  if (real) made->real = strtod(copy, &end);
  else made->integer = strtoll(copy, &end, 10);
  int range = real ? isinf(made->real) : errno;
  return *end || range ? wrong(r, "a number is out of range") : made;
}

static json *value(reader *r, int depth);

static json *entries(reader *r, json *made, char close, int depth) {
  json **last = &made->first;
  made->kind = close == '}' ? JSON_OBJECT : JSON_LIST;
  made->first = NULL;
  if (depth == MOST_DEPTH) return wrong(r, "it is nested too deeply");
  space(r);
  if (r->at < r->end && *r->at == close) return r->at++, made;
  for (;;) {
    const char *key = NULL;
    space(r);
    if (close == '}') {
      if (!take(r, "\"")) return wrong(r, "an object's key is none");
      if (!(key = string(r))) return NULL;
      if (json_get(made, key)) return wrong(r, "a key is there twice");
      space(r);
      if (!take(r, ":")) return wrong(r, "a key has no value");
    }
    json *entry = value(r, depth + 1);
    if (!entry) return NULL;
    entry->key = key;
    *last = entry;
    last = &entry->next;
    made->count++;
    space(r);
    if (r->at < r->end && *r->at == close) return r->at++, made;
    if (!take(r, ",")) return wrong(r, "a list or object does not end");
  }
}

static json *value(reader *r, int depth) {
  json *made = r->node++;
  memset(made, 0, sizeof *made);
  space(r);
  if (r->at == r->end) return wrong(r, "it ends too early");
  if (take(r, "{")) return entries(r, made, '}', depth);
  if (take(r, "[")) return entries(r, made, ']', depth);
  if (take(r, "\"")) {
    made->kind = JSON_TEXT;
    made->text = string(r);
    return made->text ? made : NULL;
  }
  if (take(r, "null")) return made;
  made->kind = take(r, "true") ? JSON_TRUE : take(r, "false") ? JSON_FALSE : JSON_NULL;
  return made->kind ? made : number(r, made);
}

json *json_read(const char *text, size_t size, json *nodes, char *texts, const char **fault) {
  reader r = {text, text + size, NULL, nodes, texts};
  json *whole = value(&r, 0);
  space(&r);
  if (whole && r.at != r.end) whole = wrong(&r, "something follows its end");
  *fault = r.fault;
  return whole;
}

const json *json_get(const json *object, const char *key) {
  if (!object || object->kind != JSON_OBJECT) return NULL;
  for (const json *entry = object->first; entry; entry = entry->next)
    if (!strcmp(entry->key, key)) return entry;
  return NULL;
}
