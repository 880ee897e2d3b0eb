/* The state of one search; search.c says how it goes. Times are sections, sizes and offsets are units. */
#include <stdbool.h>
#include <stdint.h>

enum { FOUND = 0, NONE = 1, OUT_OF_WORK = 2 };
enum { INFINITE = INT32_MAX, SUSPECTS = 4 };

typedef struct {
    int32_t count, sections, capacity;
    const int32_t *size, *first, *end; /* of each buffer: units, and its sections [first, end) */
    int32_t *place;                    /* its offset, or -1 while it has none */
    int32_t *low;                      /* the highest top of what is placed and overlaps it in time */
    int32_t *beside, *from;            /* those that overlap it in time: beside[from[i]] to beside[from[i + 1] - 1] */
    int32_t *crossing;                 /* [section] unplaced buffers that also live in the section before */
    int32_t *pool;                     /* stack of lists of buffers */
    int32_t *raised, *lows;            /* stack of what changed in `low`, to undo it */
    int32_t pooled, raises;
    int32_t *load, *top, *second; /* [section] scratch of the bounds */
    int32_t *bound, *sorted;      /* [buffer] scratch of the bounds */
    int32_t *inside, *inside_from; /* the buffers of each section: inside[inside_from[s]] and on */
    int32_t suspects[SUSPECTS];    /* sections where a bound failed of late */
    int32_t next;                 /* least capacity at which a bound that failed would hold */
    int64_t work, nodes;          /* what may still be done, in visits of buffers and sections; placements tried */
} Search;

bool bounds_hold(Search *search, int begin, int end, const int32_t *buffers, int count, int32_t level, int rank);
