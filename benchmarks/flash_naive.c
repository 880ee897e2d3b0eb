// What a simple loader does: reads a model layer by layer, with memory of its own for each, and frees it again.
//   naive FILE OFFSET SIZE LAYERS PASSES      seconds that each pass read, one a line
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int count, char **words) {
    if (count != 6) return 2;
    long long offset = atoll(words[2]), size = atoll(words[3]), layers = atoll(words[4]), passes = atoll(words[5]);
    int file = open(words[1], O_RDONLY);
    if (file < 0) return 1;
    for (long long pass = 0; pass < passes; pass++) {
        double start = now();
        for (long long layer = 0; layer < layers; layer++) {
            long long from = size * layer / layers, bytes = size * (layer + 1) / layers - from;
            char *weights = malloc(bytes);
            for (long long done = 0; weights && done < bytes;) {
                ssize_t got = pread(file, weights + done, bytes - done, offset + from + done);
                if (got <= 0) return 1;
                done += got;
            }
            if (!weights) return 1;
            free(weights);
        }
        printf("%.6f\n", now() - start);
        fflush(stdout);
    }
    return 0;
}
