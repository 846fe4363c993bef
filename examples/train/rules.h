/* SPDX-License-Identifier: MIT
 * rules.h: how the workers of a run learn together. Each worker's training loop calls two functions a step, or one that
 * is the optimiser, too; what is behind them is grawa.h, subspace.h, hpsgd.h, dsgd_aau.h, saddle.h, or one of the rules
 * they are compared with. */
#ifndef TRAIN_RULES_H
#define TRAIN_RULES_H

#include "device.h"
#include "model.h"
#include "options.h"
#include "team.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Local steps between two rounds. */
size_t rule_period(algorithm a, const options *o);

/* Do workers go on without waiting for each other, so that fast ones take more steps than slow ones? */
bool rule_is_free(algorithm a, const options *o);

/* Are there rounds in which all workers meet? (Else the numbers of rounds below are each worker's own.) */
bool rule_has_meetings(algorithm a);

/* Must all agree on who is in? (Else each only knows its neighbours.) */
bool rule_has_views(algorithm a);

/* One worker's side of the rule; belongs to the worker's thread. `params` and `grads` are the worker's own, on its
 * device, and stay where they are. RULE_LATE, RULE_AGAIN: the others are training already (over processes only): what
 * the rule does not bring with it (the model, but for hpsgd and dsgd_aau; the optimiser's state) must come from one of
 * them, or (RULE_AGAIN) `params` and `saved` are what this worker had in its last life. Whatever goes wrong in
 * communication, other than the death of a worker, ends the program with a line. */
typedef struct rule rule;
typedef enum rule_entry { RULE_FOUNDS, RULE_LATE, RULE_AGAIN } rule_entry;
rule *rule_new(team *t, algorithm a, size_t rank, const options *o, device *on, tensor_list *params, tensor_list *grads,
               rule_entry entry, const void *saved, size_t saved_bytes);

/* For rule_new's `saved`: everything of the rule that shapes what follows, where a worker that comes again can go on with
 * it (else, or in the middle of something: NULL, 0 bytes). Give it back with free(). */
void *rule_save(rule *r, size_t *bytes);

/* Over processes. The rule comes to know of links (rule_listen). Somebody may ask for the state of the training
 * (crew_asked), and is answered by `serve`: between steps, and within one as long as nothing of it is in the parameters
 * yet. Between steps, rule_attend takes in what has happened. */
typedef void (*rule_serve)(void *ctx);
void rule_listen(rule *r, crew *c);
void rule_serve_with(rule *r, rule_serve serve, void *ctx);
void rule_attend(rule *r);

/* After the backward pass: the gradients may be replaced by something better. Returns 0, or the number of the round
 * if the workers met in one. */
uint64_t rule_gradient(rule *r);

/* After the optimiser's step on a batch of this mean loss: the parameters may move. Returns as above. */
uint64_t rule_step(rule *r, double loss);

/* Is the rule the optimiser, too? Then rule_learn takes the place of both of the above and of the optimiser's step. */
bool rule_is_optimiser(algorithm a);

/* The gradient of the batch's mean loss at `at`. own: that is this worker's own model; once a step. */
typedef void (*rule_differentiate)(void *ctx, const tensor_list *at, tensor_list *into, bool own);

/* A step with one batch, at this learning rate (above 0). Returns as above. */
uint64_t rule_learn(rule *r, double rate, rule_differentiate differentiate, void *ctx);

/* The model that this worker would give away now, into memory of the processor: its parameters, but with hpsgd, where
 * they are a replica that will be put back, the global model. */
void rule_model(rule *r, tensor_list *into);

/* In place of a sleep of so long: where the rule allows it, others are answered meanwhile. */
void rule_idle(rule *r, uint64_t ns);

/* After the last step of a worker that lived to the end. */
void rule_leave(rule *r);

typedef struct rule_stats {
    uint64_t rounds;  /* exchanges of all members that were completed here; dsgd_aau: epochs, which join all of them;
                       * saddle.h: of all neighbours */
    uint64_t payload; /* bytes of models, gradients and norms that this worker sent */
} rule_stats;

void rule_read_stats(const rule *r, rule_stats *out);
void rule_free(rule *r);

#endif
