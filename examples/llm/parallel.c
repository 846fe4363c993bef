/* SPDX-License-Identifier: MIT
 * parallel.c: the only file that knows of the library. Between the dashes stands what a trainer adds for it: the
 * network, once; a descriptor for the gradients (or the parameters) and memory; and a call in each step. */
#define _POSIX_C_SOURCE 200809L
#define SUBSPACE_IMPLEMENTATION
#include "subspace.h"
#define HPSGD_IMPLEMENTATION
#include "hpsgd.h"
#include "weft_tcp.h"

#include "parallel.h"

#include "train/util.h"

#include <stdlib.h>
#include <string.h>

struct parallel {
    const options *options;
    rule rule;
    float *params;
    weft_tcp tcp;
    weft_transport net;
    weft_tensor tensor[MODEL_TENSORS];
    subspace *gradients;
    hpsgd *replica;
    void *memory;
};

/* An error ends this worker; the others hear of it, and end as well. */
static void check(const parallel *p, weft_status s, const weft_detail *d) {
    if (s >= 0) return;
    const char *name = RULE_NAME[p->rule];
    const unsigned me = (unsigned)p->options->rank;
    if (s == WEFT_ERR_NONFINITE) broken("%s: the training has diverged; try a smaller --lr", name);
    if (s == WEFT_ERR_PEER_LOST) broken("%s, worker %u: worker %u is gone", name, me, (unsigned)d->peer);
    broken("%s, worker %u: %s (%s; %s: expected %llu, got %llu)", name, me, weft_strerror(s), d->phase ? d->phase : "",
           d->field ? d->field : "value", (unsigned long long)d->expected, (unsigned long long)d->got);
}

parallel *parallel_open(const options *o, uint64_t job) {
    parallel *p = new_array(1, sizeof *p);
    p->options = o;
    weft_tcp_blank(&p->tcp);
    if (!o->peers) return p; /* alone */
    /* ---- */
    weft_tcp_options t = {.rank = (uint32_t)o->rank, .peers = o->peers, .job = job, .connect_ns = 120000000000u};
    t.tls_folder = o->tls;
    t.plaintext_on_any_network = o->plaintext;
    if (weft_tcp_open(&p->tcp, &p->net, &t) != WEFT_OK) bad_input("--peers: %s", p->tcp.why);
    if (weft_tcp_join(&p->tcp) != WEFT_OK) broken("%s (or: other options, or another text?)", p->tcp.why);
    /* ---- */
    return p;
}

void parallel_begin(parallel *p, rule r, const model *m, float *params, float *grads) {
    weft_detail why = {0};
    float *of = r == RULE_HPSGD ? params : grads;
    p->rule = r;
    p->params = params;
    /* ---- */
    for (size_t i = 0; i < m->tensors; i++)
        p->tensor[i] = (weft_tensor){of + m->tensor[i].offset, m->tensor[i].count, WEFT_F32};
    const weft_tensors all = {p->tensor, (uint32_t)m->tensors};
    if (r == RULE_MEAN || r == RULE_SUBSPACE) {
        subspace_desc d = {.struct_size = sizeof d, .gradients = all, .transport = &p->net, .channel = r};
        d.rule = r == RULE_MEAN ? SUBSPACE_MEAN : SUBSPACE_NORMALISED;
        d.momentum = p->options->subspace_momentum;
        const size_t bytes = subspace_memory(&d, NULL);
        p->memory = malloc(bytes);
        check(p, subspace_init_detail(&p->gradients, &d, p->memory, bytes, &why), &why);
    }
    if (r == RULE_HPSGD) {
        hpsgd_desc d = {.struct_size = sizeof d, .params = all, .transport = &p->net, .channel = r};
        d.mode = HPSGD_FIXED; /* the same run every time; HPSGD_FREE takes as many steps as fit into a round */
        d.max_steps = (uint32_t)p->options->phase;
        d.carry = p->options->beta;
        const size_t bytes = hpsgd_memory(&d, NULL);
        p->memory = malloc(bytes);
        check(p, hpsgd_init_detail(&p->replica, &d, p->memory, bytes, &why), &why);
    }
    /* ---- */
}

void parallel_gradients(parallel *p) {
    /* ---- the gradients are then the workers' mean, or AdaCons' aggregate of them */
    if (p->gradients) check(p, subspace_aggregate(p->gradients), subspace_detail(p->gradients));
}

void parallel_step(parallel *p) {
    if (!p->replica) return;
    /* ---- takes in what has come, sends off what is new */
    weft_status s = hpsgd_step(p->replica);
    if (s == WEFT_STALL) s = hpsgd_wait(p->replica); /* the network is behind */
    check(p, s, hpsgd_detail(p->replica));
}

void parallel_model(parallel *p, const model *m, float *out) {
    if (!p->replica) {
        memcpy(out, p->params, m->parameters * sizeof *out);
        return;
    }
    weft_tensor t[MODEL_TENSORS];
    for (size_t i = 0; i < m->tensors; i++)
        t[i] = (weft_tensor){out + m->tensor[i].offset, m->tensor[i].count, WEFT_F32};
    const weft_tensors all = {t, (uint32_t)m->tensors};
    check(p, hpsgd_model(p->replica, &all), hpsgd_detail(p->replica));
}

uint64_t parallel_bytes(const parallel *p) {
    weft_traffic sent = {0};
    subspace_stats_t a;
    hpsgd_stats_t h;
    if (p->gradients) subspace_stats(p->gradients, &a), sent = a.traffic;
    if (p->replica) hpsgd_stats(p->replica, &h), sent = h.traffic;
    return sent.payload_sent + sent.control_sent;
}

void parallel_finish(parallel *p) {
    if (!p->replica) return;
    /* ---- what is under way goes into the model */
    check(p, hpsgd_drain(p->replica), hpsgd_detail(p->replica));
    check(p, hpsgd_wait(p->replica), hpsgd_detail(p->replica));
}

void parallel_end(parallel *p) {
    /* ---- */
    if (p->replica) {
        check(p, hpsgd_leave(p->replica), hpsgd_detail(p->replica));
        check(p, hpsgd_wait(p->replica), hpsgd_detail(p->replica));
        hpsgd_close(p->replica);
    }
    if (p->gradients) {
        check(p, subspace_leave(p->gradients), subspace_detail(p->gradients));
        check(p, subspace_wait(p->gradients), subspace_detail(p->gradients));
        subspace_close(p->gradients);
    }
    /* ---- */
    free(p->memory);
    p->memory = NULL;
    p->replica = NULL;
    p->gradients = NULL;
}

void parallel_close(parallel *p) {
    weft_tcp_close(&p->tcp);
    free(p);
}
