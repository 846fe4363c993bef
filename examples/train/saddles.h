/* SPDX-License-Identifier: MIT
 * saddles.h: Q-SADDLe, N-SADDLe and what they are built on (saddle.h), for rules.c. These rules are the optimiser, too:
 * they ask for gradients here and there, and leave the parameters as they are after the step. */
#ifndef TRAIN_SADDLES_H
#define TRAIN_SADDLES_H

#include "rules.h"

#include "saddle.h"

bool is_saddle(algorithm a);

/* A worker's object. The parameters stay where they are. On an error NULL: *s and *why say what it is. */
typedef struct saddles saddles;
saddles *saddles_new(algorithm a, const options *o, weft_tensors params, const weft_transport *net,
                     const weft_graph *graph, uint64_t timeout_ns, weft_status *s, weft_detail *why);

/* One step of this batch. A neighbour that dies is no error. */
weft_status saddles_step(saddles *x, double rate, rule_differentiate differentiate, void *ctx);

/* In the middle of a gradient: for so long messages are moved, and nothing else is done. */
weft_status saddles_idle(saddles *x, uint64_t ns);

weft_status saddles_leave(saddles *x);
const weft_detail *saddles_detail(const saddles *x);
void saddles_read(const saddles *x, rule_stats *out);
void saddles_free(saddles *x);

#endif
