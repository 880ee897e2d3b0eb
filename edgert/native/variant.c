/* Artifacts with code for several processors: which of it this one runs. */
#include <stdlib.h>
#include <string.h>

#include "opened.h"

/* Whether this processor has all features that `variant` lists. */
static int runs(const item *variant) {
  item list = item_key(variant, "features");
  int64_t count = item_count(&list), at = 0;
  const char **features = anonymous((count + 1) * (int64_t)sizeof *features, "the manifest");
  for (const json *entry = list.value->first; entry; entry = entry->next, at++) {
    item one = item_entry(&list, entry, at);
    features[at] = item_text(&one);
  }
  return !missing_feature(features);
}

int choose_variant(opened *o) {
  if (!json_get(o->manifest, "variants")) return 0;
  item top = {o, o->manifest, ""}, list = item_key(&top, "variants");
  item_count(&list);
  int64_t index = 0;
  for (const json *entry = list.value->first; entry; entry = entry->next, index++) {
    item one = item_entry(&list, entry, index);
    if (!runs(&one)) continue;
    item name = item_key(&one, "name");
    char member[120];
    const char *fault;
    int length = snprintf(member, sizeof member, "variants/%s.json", item_text(&name));
    const archive_member *found = length < (int)sizeof member ? archive_get(&o->members, member) : NULL;
    if (!found) damaged(o, "%.100s is missing", member);
    const char *text = (const char *)o->file + found->data;
    json *nodes = anonymous((int64_t)(json_nodes(text, found->size) * sizeof *nodes), "the manifest");
    json *part = json_read(text, found->size, nodes, anonymous(found->size + 1, "the manifest"), &fault);
    if (fault) damaged(o, "%.100s: %s", member, fault);
    if (part->kind != JSON_OBJECT || !part->count) damaged(o, "%.100s is no object", member);
    json *last = part->first; /* its entries stand before the manifest's, where they are found first */
    while (last->next) last = last->next;
    last->next = o->manifest->first;
    part->count += o->manifest->count;
    o->manifest = part;
    return 1;
  }
  return 0;
}
