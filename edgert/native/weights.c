/* The standalone program's weights: mapped whole, or read as it runs inside a budget for the whole process. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "program.h"

enum { PAGE = 4096, HUGE = 2 << 20, READERS = 6, READER_BYTES = 64 << 10, BLOCK = 512 << 10, MOST_RING = 2 * HUGE };
enum { PREDICTED = 16, WARMING = 8 }; /* runs that are predicted from; the first ones find nothing in caches */
enum { TIMEOUT_MS = 30000, GAP = 64 << 10, SLOTS = 32, CHOSEN = 15, RANGE = 32, EXPERT = 64 };

static int64_t pages(int64_t bytes) { return (bytes + PAGE - 1) / PAGE * PAGE; }

/* Bytes that this process holds now: its own and pages of files. */
static int64_t held(void) {
  long long size = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%lld %lld", &size, &resident) != 2) fail(FAILED, "cannot read /proc/self/statm");
  fclose(file);
  return resident * sysconf(_SC_PAGESIZE);
}

/* What a layout takes of memory whatever the budget (flashload/visits.py has the same sums). */
static int64_t least_ring(const edgert_layout *layout, int64_t most) { /* of visits of at most so many bytes */
  int64_t ring = 0, largest;
  for (int64_t v = 0; v < layout->visit_count; v++) {
    int64_t sum = edgert_visit_bytes(layout, v, &largest);
    if (sum <= most && sum + largest > ring) ring = sum + largest;
  }
  return ring;
}

/* Of all that runs read but rows of tables. */
static int64_t streamed_bytes(const edgert_layout *layout) {
  int64_t sum = 0;
  for (int64_t i = 0; i < layout->segment_count; i++)
    for (int64_t p = 0; p < layout->piece_count && !layout->segments[i].resident; p++)
      if (layout->pieces[p].segment == i) {
        sum += pages(layout->segments[i].size);
        break;
      }
  return sum;
}

static int64_t table_bytes(const edgert_layout *layout) {
  int64_t sum = 0, staging = 0, most = 0;
  for (int64_t i = 0; i < layout->lookup_count; i++) {
    const edgert_lookup *table = &layout->lookups[i];
    if (experts_are(table)) {
      sum += table->bytes + table->extent * EXPERT;
      continue;
    }
    if (table->chosen) {
      int64_t size = pages(table->size) + PAGE + table->extent * RANGE;
      sum += table->extent * CHOSEN;
      staging = size > staging ? size : staging;
      continue;
    }
    if (lookup_first(layout, i) != i) continue;
    for (int64_t j = 0; j < layout->segment_count; j++) {
      const edgert_segment *segment = &layout->segments[j];
      if (segment->offset < table->offset + table->size && table->offset < segment->offset + segment->size)
        most = segment->size > most ? segment->size : most;
    }
    sum += SLOTS * (pages(table->bytes) + PAGE) + 9 * (table->size / table->bytes + 1);
  }
  return sum + staging + pages(most);
}

int64_t arena_touched(const session *s) {
  const edgert_model *model = s->model;
  for (int64_t i = 0; i < model->arena_use_count; i++)
    if (s->dims[0] <= model->arena_uses[i].most && (model->dim_count < 2 || s->dims[1] <= model->arena_uses[i].second))
      return model->arena_uses[i].bytes;
  return model->arena_bytes;
}

/* The system reads ahead, by megabytes on some machines, where a program's own pages are first used: with the code come
 * weights, which would take memory of the budget. */
static void forget_read_ahead(const char *path, int64_t start, int64_t bytes) {
  extern char __executable_start[], __bss_start[];
  uintptr_t from = (uintptr_t)__executable_start / PAGE * PAGE, to = ((uintptr_t)__bss_start + PAGE - 1) / PAGE * PAGE;
  madvise((void *)from, to - from, MADV_RANDOM);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  posix_fadvise(file, (off_t)start, (off_t)bytes, POSIX_FADV_DONTNEED);
  close(file);
}

void open_weights(session *s, int64_t dram, int64_t later) {
  const edgert_model *model = s->model;
  if (!dram || !model->layout) {
    if (dram && held() + later + model->weights_bytes > dram)
      fail(DOES_NOT_FIT, "needs %lld bytes (%lld of them weights, which are too small to be streamed), the budget is %lld",
           (long long)(held() + later + model->weights_bytes), (long long)model->weights_bytes, (long long)dram);
    s->weights = s->place.map(s);
    return;
  }
  const edgert_layout *layout = model->layout;
  madvise(s->arena, (size_t)model->arena_bytes, MADV_NOHUGEPAGE); /* what is not touched takes no memory */
  int64_t resident = 0, all = 0, ring = least_ring(layout, INT64_MAX);
  int64_t each = READER_BYTES + s->place.scratch, readers = READERS * each;
  for (int64_t i = 0; i < layout->segment_count; i++) {
    int64_t size = pages(layout->segments[i].size);
    all += size;
    if (layout->segments[i].resident) resident += size;
  }
  int64_t margin = (5 << 18) + dram / 256; /* code that has not run yet; what the kernel keeps for this process */
  int64_t taken = held() + later + margin + table_bytes(layout) + 2 * s->place.scratch, left = dram - taken - resident;
  edgert_streaming plan = {.start = s->place.start, .block_bytes = BLOCK, .threads = READERS,
                           .timeout_ms = TIMEOUT_MS, .gap_bytes = GAP};
  if (left >= all - resident) {
    plan.pinned_bytes = all - resident;
  } else if (left - readers >= streamed_bytes(layout)) {
    plan.pinned_bytes = left - readers; /* and as much of tables as has room */
  } else {
    for (; plan.threads > 1 && left < ring + readers; plan.threads--) readers -= each;
    if (left < ring + readers)
      fail(DOES_NOT_FIT, "needs at least %lld bytes (process, arena and buffers %lld, resident weights %lld, ring %lld), "
           "the budget is %lld", (long long)(taken + resident + ring + readers), (long long)(taken), (long long)resident,
           (long long)ring, (long long)dram);
    int64_t wanted = dram / 8 < MOST_RING ? dram / 8 : MOST_RING; /* a few blocks ahead; it takes from what stays */
    if (wanted > HUGE) wanted = wanted / HUGE * HUGE; /* the rest would be small pages, which fill at half the speed */
    int64_t large = edgert_large_bytes(layout), small = least_ring(layout, EDGERT_LARGE);
    if (wanted < small) wanted = small;
    if (left >= large + wanted + readers) ring = wanted; /* large visits stay */
    else if (wanted > ring && left >= wanted + readers) ring = wanted;
    plan.ring_bytes = ring;
    plan.pinned_bytes = left - ring - readers;
  }
  edgert_source *source = s->place.source(s);
  if (!source) fail(FAILED, "cannot read %s while the model runs: %s", s->place.path, strerror(errno));
  forget_read_ahead(s->place.path, plan.start, model->weights_bytes);
  char message[512];
  s->stream = edgert_stream_open(layout, &plan, source, message, sizeof message);
  if (!s->stream) fail(FAILED, "%s", message);
}

void predict_run(session *s) {
  if (!s->stream || s->runs == PREDICTED) return;
  if (s->runs++ == WARMING) s->predicted_ns = s->predictions = 0;
  s->predicted_ns += edgert_stream_predicted(s->stream);
  s->predictions++;
}

double predicted_seconds(const session *s) {
  return s->predictions ? (double)s->predicted_ns / 1e9 / (double)s->predictions : 0;
}

void print_streaming(const session *s, double seconds) {
  if (!s->stream) return;
  edgert_stream_stats f = edgert_stream_figures(s->stream);
  printf("streaming: %lld bytes stay, ring %lld, read %lld in %lld reads, waited %.3f s; rows looked up %lld, read %lld\n",
         (long long)f.pinned_bytes, (long long)f.ring_bytes, (long long)f.read_bytes, (long long)f.reads, f.wait_ns / 1e9,
         (long long)f.lookups, (long long)f.lookup_reads);
  double predicted = predicted_seconds(s);
  if (predicted > 0 && seconds > 0)
    printf("predicted from the first runs and how fast weights came in: %.2f runs/s; measured: %.2f\n", 1 / predicted, 1 / seconds);
  if (f.chosen_rows)
    printf("neurons or experts chosen: %lld, in memory %.1f %%\n", (long long)f.chosen_rows,
           100.0 * (double)(f.chosen_rows - f.chosen_missing) / (double)f.chosen_rows);
}
