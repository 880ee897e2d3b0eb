/* Can these buffers be placed within a capacity? A depth-first search in the manner of MiniMalloc (Moffitt, ASPLOS
 * 2023).
 *
 * Of all placements that fit, one has the least sum of offsets. In it no buffer can move down, so each lies at 0 or
 * on top of another. The search builds that one from the bottom up: buffers are placed in order of their offset,
 * equals in their given order, always on top of all that is placed and overlaps them in time. What cannot lead to it
 * is left out:
 * - canonical order: nothing goes below what was placed last, or beside it with a smaller number;
 * - dominance: nothing goes so high that an unplaced buffer would fit beneath it, where it would stay possible;
 * - nothing above: when what was placed raises no other, no other place for it can be better;
 * - bounds: see bounds.c. The least capacity that a failed bound asks for is a lower bound when all fails.
 * Where no unplaced buffer crosses a border in time any more, the two sides are searched one by one. */
#include "search.h"

static int descend(Search *search, int begin, int end, const int32_t *buffers, int count, int32_t level, int rank);

/* Splits sections [begin, end) at the borders that nothing crosses, and searches each part. */
static int divide(Search *search, int begin, int end, const int32_t *buffers, int count, int32_t level, int rank) {
    int32_t mark = search->pooled;
    int status = FOUND, from = begin;
    for (int border = begin + 1; border <= end && status == FOUND; border++) {
        if (border < end && search->crossing[border]) continue;
        int32_t *part = search->pool + search->pooled;
        int parts = 0;
        for (int i = 0; i < count; i++) {
            int buffer = buffers[i];
            if (search->place[buffer] < 0 && search->first[buffer] >= from && search->end[buffer] <= border)
                part[parts++] = buffer;
        }
        search->work -= count;
        search->pooled += parts;
        if (parts) status = descend(search, from, border, part, parts, level, rank);
        from = border;
    }
    if (status != FOUND) /* parts before the one that failed were solved: take them back */
        for (int i = mark; i < search->pooled; i++) search->place[search->pool[i]] = -1;
    search->pooled = mark;
    return status;
}

/* Counts `buffer` among those that are unplaced (sign +1), or not any more (-1), at the borders it crosses. */
static void count_crossing(Search *search, int buffer, int sign) {
    for (int s = search->first[buffer] + 1; s < search->end[buffer]; s++) search->crossing[s] += sign;
}

/* Puts `buffer` on top of all that lies below it, and searches on. */
static int try_next(Search *search, int begin, int end, const int32_t *buffers, int count, int buffer) {
    int32_t at = search->low[buffer], top = at + search->size[buffer];
    search->place[buffer] = at;
    for (int i = search->from[buffer]; i < search->from[buffer + 1]; i++) {
        int other = search->beside[i];
        if (search->place[other] >= 0 || search->low[other] >= top) continue;
        search->raised[search->raises] = other;
        search->lows[search->raises++] = search->low[other];
        search->low[other] = top;
    }
    count_crossing(search, buffer, -1);
    search->nodes++;
    search->work -= search->from[buffer + 1] - search->from[buffer];
    int status = NONE;
    if (bounds_hold(search, begin, end, buffers, count, at, buffer))
        status = divide(search, begin, end, buffers, count, at, buffer);
    count_crossing(search, buffer, 1);
    return status;
}

/* Lists at `next` the buffers that may be placed next, by their offset; gives their number, -1 when all are placed. */
static int choices(Search *search, const int32_t *buffers, int count, int32_t level, int rank, int32_t *next) {
    int32_t ceiling = INFINITE; /* the lowest top: from there on, what has it would fit beneath */
    for (int i = 0; i < count; i++) {
        int buffer = buffers[i];
        int32_t top = search->low[buffer] + search->size[buffer];
        if (search->place[buffer] < 0 && top < ceiling) ceiling = top;
    }
    int found = 0;
    for (int i = 0; i < count; i++) {
        int buffer = buffers[i], at = found;
        int32_t low = search->low[buffer];
        if (search->place[buffer] >= 0 || low >= ceiling || low < level || (low == level && buffer < rank)) continue;
        for (; at && search->low[next[at - 1]] > low; at--) next[at] = next[at - 1];
        next[at] = buffer;
        found++;
    }
    search->work -= 2 * count;
    return ceiling == INFINITE ? -1 : found;
}

static int descend(Search *search, int begin, int end, const int32_t *buffers, int count, int32_t level, int rank) {
    int32_t *next = search->pool + search->pooled;
    int found = choices(search, buffers, count, level, rank, next);
    if (found < 0) return FOUND;
    int status = NONE;
    search->pooled += found;
    for (int i = 0; i < found && status == NONE; i++) {
        int32_t mark = search->raises;
        if (search->work <= 0) {
            status = OUT_OF_WORK;
            break;
        }
        status = try_next(search, begin, end, buffers, count, next[i]);
        bool bare = search->raises == mark; /* it lies above nothing that is still to come */
        while (search->raises > mark) {
            search->raises--;
            search->low[search->raised[search->raises]] = search->lows[search->raises];
        }
        if (status != FOUND) search->place[next[i]] = -1;
        if (bare) break;
    }
    search->pooled -= found;
    return status;
}

/* Lists the buffers of every section. */
static void list_sections(Search *search) {
    int32_t found = 0;
    for (int s = 0; s < search->sections; s++) {
        search->inside_from[s] = found;
        for (int i = 0; i < search->count; i++)
            if (search->first[i] <= s && s < search->end[i]) search->inside[found++] = i;
    }
    search->inside_from[search->sections] = found;
}

/* Words of scratch that exact_search needs: a few per buffer and section, and lists that grow with the depth. */
int64_t exact_scratch(int32_t count, int32_t sections) {
    int64_t pairs = (int64_t)count * count;
    return 5 * pairs /* beside, raised, lows; pool: at every depth the choices and the parts of what is left */
        + (int64_t)count * sections /* inside */
        + 9 * (int64_t)count + 5 * (int64_t)sections + 3;
}

/* Places `count` buffers of `size` units, which live in the sections [first, end) and are numbered in the order to
 * be tried, within `capacity` units. Writes `place`, takes from `work`, adds to `nodes`, and after NONE says at
 * `next` what capacity is needed at least. `scratch` may hold anything. */
int exact_search(int32_t count, int32_t sections, const int32_t *size, const int32_t *first, const int32_t *end,
                 int32_t capacity, int64_t *work, int64_t *nodes, int32_t *next, int32_t *place, int32_t *scratch) {
    int64_t pairs = (int64_t)count * count;
    Search search = {.count = count, .sections = sections, .capacity = capacity, .next = INFINITE,
                     .size = size, .first = first, .end = end, .place = place, .work = *work, .nodes = *nodes};
    int32_t **arrays[] = {&search.from, &search.low, &search.bound, &search.sorted,
                          &search.crossing, &search.inside_from, &search.load, &search.top, &search.second,
                          &search.inside, &search.beside, &search.raised, &search.lows, &search.pool};
    int64_t lengths[] = {count + 1, count, count, count,
                         sections + 1, sections + 1, sections, sections, sections,
                         (int64_t)count * sections, pairs, pairs, pairs, 2 * pairs + 4 * count};
    for (int i = 0; i < (int)(sizeof lengths / sizeof *lengths); scratch += lengths[i++]) *arrays[i] = scratch;
    for (int s = 0; s <= sections; s++) search.crossing[s] = 0;
    int32_t *all = scratch, found = 0;
    for (int i = 0; i < count; i++) {
        all[i] = i;
        place[i] = -1;
        search.low[i] = 0;
        search.from[i] = found;
        for (int j = 0; j < count; j++)
            if (j != i && first[i] < end[j] && first[j] < end[i]) search.beside[found++] = j;
        count_crossing(&search, i, 1);
    }
    search.from[count] = found;
    list_sections(&search);
    int status = NONE;
    if (bounds_hold(&search, 0, sections, all, count, 0, -1)) status = divide(&search, 0, sections, all, count, 0, -1);
    *work = search.work;
    *nodes = search.nodes;
    *next = search.next;
    return status;
}
