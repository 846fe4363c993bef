/* SPDX-License-Identifier: MIT
 * saddles.h: Q-SADDLe, N-SADDLe and what they are built on (saddle.h), for rules.c. These rules are the optimiser, too:
 * they ask for gradients here and there, and leave the parameters as they are after the step. */
#ifndef TRAIN_SADDLES_H
#define TRAIN_SADDLES_H

#include "rules.h"

#include "saddle.h"

#include "weft_recorder.h"

bool is_saddle(algorithm a);

/* A worker's object. The parameters stay where they are. On an error NULL: *s and *why say what it is. */
typedef struct saddles saddles;
/* gpu: the parameters are there; NULL: host memory. late: the others are training already, and `params` are what this
 * one begins with. */
saddles *saddles_new(algorithm a, const options *o, device *gpu, weft_tensors params, const weft_transport *net,
                     const weft_graph *graph, bool late, weft_recorder *box, uint64_t timeout_ns, weft_status *s,
                     weft_detail *why);

/* One step of this batch. A neighbour that dies is no error. */
weft_status saddles_step(saddles *x, double rate, rule_differentiate differentiate, void *ctx);

/* In the middle of a gradient: for so long messages are moved, and nothing else is done. */
weft_status saddles_idle(saddles *x, uint64_t ns);

/* What is called while a step waits for others, instead of sleeping; and a link that is gone, or there again. */
void saddles_look_with(saddles *x, void (*look)(void *ctx), void *ctx);
void saddles_link(saddles *x, uint32_t rank, bool up);

/* As rule_save; and back, right after saddles_new. */
void *saddles_save(saddles *x, size_t *bytes);
weft_status saddles_load(saddles *x, const void *saved, size_t bytes);

weft_status saddles_leave(saddles *x);
const weft_detail *saddles_detail(const saddles *x);
void saddles_read(const saddles *x, rule_stats *out);
void saddles_free(saddles *x);

#endif
