/* SPDX-License-Identifier: MIT
 * peer.h: torch's side of bench-codecs. For C and C++. */
#ifndef BENCH_CODECS_PEER_H
#define BENCH_CODECS_PEER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct peer_arrays {
    size_t d, k;      /* elements; how many top-k sends */
    float *z, *kept;  /* d each */
    float *out;
    int8_t *code;     /* d */
    float *step;      /* d / 256 */
} peer_arrays;

enum { PEER_Q8_ENCODE, PEER_Q8_DECODE, PEER_TOPK, PEER_KINDS };

void peer_begin(const peer_arrays *a);
/* Before each measurement: malloc as it comes, or tuned so that temporaries do not fault on their pages. */
void peer_allocator(int tuned);
void peer_run(int kind);
void peer_version(char *text, size_t size);

#ifdef __cplusplus
}
#endif
#endif
