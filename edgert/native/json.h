/* JSON read strictly (RFC 8259): no key twice in an object, no NUL in a text, valid UTF-8, numbers within 64 bits. */
#ifndef EDGERT_JSON_H
#define EDGERT_JSON_H
#include <stddef.h>
#include <stdint.h>

typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_INTEGER, JSON_REAL, JSON_TEXT, JSON_LIST, JSON_OBJECT } json_kind;

typedef struct json json;
struct json {
  const char *key; /* in an object, else NULL */
  json *next;      /* in the list or object that holds it */
  union {
    int64_t integer;
    double real;
    const char *text; /* UTF-8, NUL at its end */
    json *first;      /* of a list or object */
  };
  uint32_t count; /* entries of a list or object */
  json_kind kind;
};

/* The value that `size` bytes hold. Its memory is `nodes` (json_nodes of them) and `texts` (size + 1 bytes). NULL, with
 * what is wrong in `fault`, when they are not one JSON value. */
json *json_read(const char *text, size_t size, json *nodes, char *texts, const char **fault);
size_t json_nodes(const char *text, size_t size); /* no fewer than are needed */

/* The entry of an object, or NULL. */
const json *json_get(const json *object, const char *key);

#endif
