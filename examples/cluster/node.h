/* SPDX-License-Identifier: MIT
 * node.h: one simulated worker: its model, and the object of the library that makes it learn with the others. The
 * objects have much the same verbs; here they look alike. */
#ifndef CLUSTER_NODE_H
#define CLUSTER_NODE_H

#include "options.h"
#include "task.h"
#include "train/optim.h"

#include "dsgd_aau.h"
#include "grawa.h"
#include "hpsgd.h"
#include "saddle.h"
#include "subspace.h"

/* What all nodes of a run share. */
typedef struct node_setting {
    method method;
    const options *o;
    task *task;
    const weft_graph *graph;
    tensor_list initial;
    tensor_list grads; /* scratch, for methods that only look at gradients at once */
} node_setting;

typedef struct node {
    node_setting *of;
    uint32_t rank;
    weft_transport net;
    tensor_list params, grads;
    weft_tensor param[MAX_TENSORS], grad[MAX_TENSORS];
    sgd sgd;
    sampler sampler;
    dsgd_aau *aau;
    grawa *grawa;
    subspace *subspace;
    hpsgd *hpsgd;
    saddle *saddle;
    saddle_want want;         /* the gradient that it computes */
    uint64_t averaged, alone; /* models averaged in by completed steps; steps without any */
    uint32_t *index;          /* images of the batch */
    void *memory;
    size_t bytes;   /* of memory */
    uint64_t steps; /* batches; completed, where all neighbours take part in each */
    uint32_t epoch; /* of the last view */
} node;

/* `net` must be filled in. comes_back: it has been lost, and its model with it. Ends the program if the library
 * refuses: that is this program's fault. */
void node_open(node *n, bool comes_back);
/* Its object is closed; the model stays for a look. */
void node_close(node *n);
void node_free(node *n);

/* The model that it would give away now: its parameters, but with hpsgd, where they are a replica that will be put
 * back, the global model. `room` is used if it has to be copied. */
const tensor_list *node_model(node *n, tensor_list *room);

/* First contact, where the library has such a verb. The following return what the library says: WEFT_OK, WEFT_AGAIN
 * (node_poll it), or an error. */
weft_status node_start(node *n);
/* The time of a gradient is over: computes it, and does with it what the method does. */
weft_status node_gradient(node *n);
/* Goes on with what is in progress. WEFT_OK: it has a gradient to compute. WEFT_STALL: the network is behind, no next
 * step yet. */
weft_status node_poll(node *n);
/* In the middle of a gradient: messages are moved and others are answered. */
weft_status node_listen(node *n);
/* Somebody is lost: from now on these are the members. */
weft_status node_regroup(node *n, uint32_t epoch, const uint32_t *members, uint32_t count);
/* A neighbour on the graph, or the link to it, is gone, or usable again: algorithms without members. */
void node_peer(node *n, uint32_t rank, bool up);
/* When to poll at the latest, ns; UINT64_MAX: when something happens. */
uint64_t node_wake_ns(const node *n);
/* Does it look at messages while it computes? */
bool node_listens(const node *n);

const weft_detail *node_detail(const node *n);

typedef struct node_stats {
    uint64_t rounds;     /* completed by all members; dsgd_aau: epochs */
    uint64_t averagings; /* that this worker took part in */
    uint64_t partners;   /* other workers in them, all together */
    uint64_t alone;      /* steps without any */
    weft_traffic traffic;
} node_stats;

void node_read(const node *n, node_stats *out);

#endif
