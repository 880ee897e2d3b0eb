/* Which weights stay in memory (flashload/visits.py has the same rules). */
#include "stream_parts.h"

int64_t edgert_visit_bytes(const edgert_layout *layout, int64_t visit, int64_t *largest) {
  int64_t sum = 0;
  *largest = 0;
  for (int64_t p = 0; p < layout->visits[visit].count; p++) {
    const edgert_segment *segment = &layout->segments[layout->pieces[layout->visits[visit].first + p].segment];
    int64_t size = segment->resident ? 0 : pages(segment->size);
    sum += size;
    *largest = size > *largest ? size : *largest;
  }
  return sum;
}

int64_t edgert_large_bytes(const edgert_layout *layout) {
  int64_t sum = 0, largest;
  for (int64_t v = 0; v < layout->visit_count; v++) {
    int64_t bytes = edgert_visit_bytes(layout, v, &largest);
    if (bytes > EDGERT_LARGE) sum += bytes;
  }
  return sum;
}

/* Has large visits stay, if all of them can. Gives the bytes of their segments. */
static int64_t choose_large(const edgert_stream *s, uint8_t *stays) {
  const edgert_layout *l = &s->layout;
  int64_t sum = 0, largest;
  if (edgert_large_bytes(l) > s->plan.pinned_bytes) return 0;
  for (int64_t v = 0; v < l->visit_count; v++) {
    const edgert_visit *visit = &l->visits[v];
    if (edgert_visit_bytes(l, v, &largest) <= EDGERT_LARGE) continue;
    for (int64_t p = visit->first; p < visit->first + visit->count; p++) {
      int64_t i = l->pieces[p].segment;
      if (!stays[i]) sum += pages(l->segments[i].size);
      stays[i] = 1;
    }
  }
  return sum;
}

int64_t stays_choose(edgert_stream *s, uint8_t *stays, int64_t *rest) {
  const edgert_layout *l = &s->layout;
  int64_t kept = 0, seen = 0;
  for (int64_t i = 0; i < l->segment_count; i++) stays[i] = (uint8_t)l->segments[i].resident;
  int64_t large = choose_large(s, stays), most = s->plan.pinned_bytes - large, pinned = 0, total = 0;
  for (int64_t p = 0; p < l->piece_count; p++)
    if (!stays[l->pieces[p].segment]) total += pages(l->segments[l->pieces[p].segment].size);
  for (int64_t p = 0, next; p < l->piece_count; p = next) {
    int64_t group = 0;
    for (next = p; next < l->piece_count && group < GROUP; next++)
      if (!stays[l->pieces[next].segment]) group += pages(l->segments[l->pieces[next].segment].size);
    seen += group; /* so far a share of most / total is due */
    if (pinned + group > most || (double)(pinned + group) * (double)total > (double)seen * (double)most) continue;
    for (; p < next; p++) stays[l->pieces[p].segment] = 1;
    pinned += group;
  }
  for (int64_t p = 0; p < l->piece_count; p++) { /* what is left of the budget */
    int64_t i = l->pieces[p].segment, size = pages(l->segments[i].size);
    if (stays[i] || pinned + size > most) continue;
    stays[i] = 1;
    pinned += size;
  }
  for (int64_t i = 0; i < l->segment_count; i++) { /* tables of rows come last: most of them is never read */
    int64_t size = pages(l->segments[i].size);
    if (!stays[i] && pinned >= total && pinned + size <= most && !chosen_segment(l, i)) {
      stays[i] = 1;
      pinned += size;
    }
    if (stays[i]) kept += size;
  }
  *rest = pinned < most ? most - pinned : 0; /* for chosen rows */
  return kept;
}
