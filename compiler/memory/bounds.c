/* Spatial inference: whether what is still to be placed can fit above what has been placed. */
#include "search.h"

static inline int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

static inline bool waits(const Search *search, int buffer, int32_t level, int rank) {
    return search->low[buffer] < level || (search->low[buffer] == level && buffer < rank);
}

/* Lowest two tops, in every section, of the unplaced buffers that live there, were each placed next. */
static void lowest_tops(Search *search, const int32_t *buffers, int count, int32_t level) {
    int32_t *restrict top = search->top, *restrict second = search->second;
    for (int i = 0; i < count; i++) {
        int buffer = buffers[i];
        int32_t end = larger(search->low[buffer], level) + search->size[buffer];
        for (int s = search->first[buffer]; s < search->end[buffer]; s++) {
            int32_t high = larger(top[s], end);
            top[s] = top[s] < end ? top[s] : end;
            second[s] = second[s] < high ? second[s] : high;
        }
    }
}

/* Lowest offset that `buffer` can still get. One that was passed over in the canonical order has to wait until
 * something else that overlaps it lies beneath it; -1 when nothing is left that could. */
static int32_t lowest_offset(const Search *search, int buffer, int32_t level, int rank) {
    int32_t low = search->low[buffer];
    if (!waits(search, buffer, level, rank)) return low;
    int32_t own = larger(low, level) + search->size[buffer], bound = INFINITE;
    for (int s = search->first[buffer]; s < search->end[buffer]; s++) {
        int32_t other = search->top[s] == own ? search->second[s] : search->top[s];
        bound = other < bound ? other : bound;
    }
    return bound == INFINITE ? -1 : bound;
}

/* Says that the buffers of section `s` need `capacity`, which is too much: it is looked at first from now on. */
static void suspect(Search *search, int s, int32_t capacity) {
    if (capacity < search->next) search->next = capacity;
    int i = 0;
    while (i < SUSPECTS - 1 && search->suspects[i] != s) i++;
    for (; i; i--) search->suspects[i] = search->suspects[i - 1];
    search->suspects[0] = s;
}

/* A weaker bound for one section, in a fraction of the time: all that is unplaced, above the lowest start of any. */
static bool fits_section(Search *search, int s, int32_t level) {
    int32_t low = INFINITE, load = 0;
    for (int i = search->inside_from[s]; i < search->inside_from[s + 1]; i++) {
        int buffer = search->inside[i];
        if (search->place[buffer] >= 0) continue;
        if (search->low[buffer] < low) low = search->low[buffer];
        load += search->size[buffer];
    }
    search->work -= search->inside_from[s + 1] - search->inside_from[s];
    if (!load || larger(low, level) + load <= search->capacity) return true;
    suspect(search, s, larger(low, level) + load);
    return false;
}

/* False when, in some section in [begin, end), the unplaced among the `count` `buffers` cannot end within the
 * capacity: those that cannot begin below some offset have to stack up above it, as jobs with release dates do.
 * `level` and `rank` are the offset and the number of the buffer placed last. */
bool bounds_hold(Search *search, int begin, int end, const int32_t *buffers, int count, int32_t level, int rank) {
    int32_t *restrict load = search->load, *bound = search->bound, *sorted = search->sorted;
    int32_t *unplaced = search->pool + search->pooled;
    int left = 0;
    for (int i = 0; i < SUSPECTS; i++) { /* most placements fail where others did */
        int s = search->suspects[i];
        if (s >= begin && s < end && !fits_section(search, s, level)) return false;
    }
    for (int i = 0; i < count; i++)
        if (search->place[buffers[i]] < 0) unplaced[left++] = buffers[i];
    for (int s = begin; s < end; s++) {
        load[s] = 0;
        search->top[s] = search->second[s] = INFINITE;
    }
    lowest_tops(search, unplaced, left, level);
    for (int i = 0; i < left; i++) {
        int buffer = unplaced[i];
        int32_t low = lowest_offset(search, buffer, level, rank);
        if (low < 0) return false;
        int at = i;
        for (; at && bound[at - 1] < low; at--) {
            bound[at] = bound[at - 1];
            sorted[at] = sorted[at - 1];
        }
        bound[at] = low;
        sorted[at] = buffer;
    }
    search->work -= count + end - begin;
    for (int i = 0; i < left; i++) {
        int buffer = sorted[i];
        int32_t size = search->size[buffer], most = 0;
        for (int s = search->first[buffer]; s < search->end[buffer]; s++) {
            load[s] += size;
            most = larger(most, load[s]);
        }
        search->work -= search->end[buffer] - search->first[buffer];
        if (most + bound[i] > search->capacity) {
            int s = search->first[buffer];
            while (load[s] != most) s++;
            suspect(search, s, most + bound[i]);
            return false;
        }
    }
    return true;
}
