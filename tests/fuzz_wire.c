/* SPDX-License-Identifier: MIT
 * libFuzzer: what comes off the wire, through the whole public API. The input is a script for a simulated run of two or
 * three workers: which messages are changed and how, what is injected, who is lost, which callbacks fail, which verbs
 * are called when.
 *
 *   byte 0   variant of the run          byte 1   workers, network, guard
 *   then     operations of 12 bytes: what, whom, which, where, eight bytes of value
 *
 * What must hold: nobody reads or writes out of bounds, every worker comes to its end within a bound, every number that
 * a worker ends with is finite; and if no message was forged, the fleet's oracle holds for every bit. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "fleet.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPERATION = 12, MOST_OPERATIONS = 24 };

enum {
    DO_XOR,
    DO_RESIZE,
    DO_FORGE,
    DO_RAW,
    DO_INJECT_RAW,
    DO_INJECT_HEADER,
    DO_INJECT_BULK,
    DO_LOSE,
    DO_FAIL,
    DO_VERB,
    DO_KINDS
};

static const uint8_t *script;
static size_t operations;

static uint64_t value_of(const uint8_t *op) {
    uint64_t v = 0;
    int k;
    for (k = 0; k < 8; k++) v |= (uint64_t)op[4 + k] << (8 * k);
    return v;
}

/* A header field gets a value; the checksum fits afterwards. */
static void set_field(weft_header *h, unsigned field, uint64_t v) {
    switch (field % 10) {
    case 0: h->epoch = (uint32_t)v; break;
    case 1: h->sender = (uint32_t)v; break;
    case 2: h->round = v; break;
    case 3: h->step = (uint32_t)v; break;
    case 4: h->piece = (uint32_t)v; break;
    case 5: h->bytes = v; break;
    case 6: h->arg0 = v; break;
    case 7: h->kind = (uint32_t)v & 0xFFFF; break;
    case 8: h->big_endian = (uint32_t)v & 0xFF; break;
    default: h->payload = (uint32_t)v % (WEFT_INLINE_BYTES + 1);
    }
}

/* The n-th message of all is replaced while it is sent. */
static void on_message(void *user, const weft_sim_message *m) {
    fleet *f = (fleet *)user;
    size_t i;
    for (i = 0; i < operations; i++) {
        const uint8_t *op = script + i * OPERATION;
        if ((op[0] % DO_KINDS != DO_FORGE && op[0] % DO_KINDS != DO_RAW) || op[2] + 1u != m->number) continue;
        if (op[0] % DO_KINDS == DO_FORGE && m->tag % WEFT_TAGS_PER_CHANNEL == 0 && m->bytes <= WEFT_CONTROL_BYTES) {
            unsigned char bytes[WEFT_CONTROL_BYTES];
            weft_header h;
            weft_detail why;
            memset(bytes, 0, sizeof bytes);
            memcpy(bytes, m->data, m->bytes);
            if (weft_header_read(bytes, m->bytes, m->src, &h, &why) != WEFT_OK) continue;
            if (op[3] < 128) {
                set_field(&h, op[3], value_of(op));
            } else { /* the payload, at some place */
                uint64_t v = value_of(op);
                size_t k, at = op[3] - 128u;
                for (k = 0; k < 8 && at + k < WEFT_INLINE_BYTES; k++)
                    bytes[WEFT_HEADER_BYTES + at + k] = (unsigned char)(v >> (8 * k));
            }
            weft_sim_replace(&f->sim, m->src, m->dst, m->tag, 1, bytes, weft_header_write(bytes, &h));
        } else if (m->bytes <= 65536) { /* numbers in bulk, or rubbish in a control message */
            unsigned char *bytes = (unsigned char *)malloc(m->bytes + 1);
            size_t k;
            memcpy(bytes, m->data, m->bytes);
            for (k = op[3] % 8u; k < m->bytes; k += op[1] % 32u + 1) bytes[k] = op[4 + k % 8];
            weft_sim_replace(&f->sim, m->src, m->dst, m->tag, 1, bytes, m->bytes);
            free(bytes);
        }
    }
}

/* Verbs between the steps, sensible and not. */
static void after_step(fleet_worker *w) {
    size_t i;
    for (i = 0; i < operations && w->g; i++) {
        const uint8_t *op = script + i * OPERATION;
        static unsigned char blob[8192];
        size_t n = 0;
        uint32_t members[5];
        weft_view v;
        if (op[0] % DO_KINDS != DO_VERB || op[1] % w->f->size != w->rank || op[2] % 8 != w->step) continue;
        switch (op[3] % 14) {
        case 0: grawa_poll(w->g); break;
        case 1: grawa_save(w->g, blob, op[4] * 32u, &n); break;
        case 2: grawa_load(w->g, op + 4, 8); break;
        case 3: grawa_set_period(w->g, op[4] % 5u); break;
        case 4: grawa_set_pull(w->g, op[4] / 200.0); break;
        case 5: grawa_set_proximal(w->g, op[4] / 200.0); break;
        case 6: grawa_set_grad_scale(w->g, op[4] - 3.0); break;
        case 7: grawa_probe(w->g, NULL); break;
        case 8: grawa_peer_up(w->g, op[4]); break;
        case 9: /* a view that is not one */
            memset(members, 0, sizeof members);
            members[0] = op[4] % 4u;
            members[1] = op[5] % 4u;
            memset(&v, 0, sizeof v);
            v.struct_size = op[6] % 4 ? sizeof v : 1;
            v.count = op[7] % 5u;
            v.members = members;
            v.epoch = w->g->group.epoch; /* too old in any case */
            grawa_regroup(w->g, &v);
            break;
        case 10: { /* a gradient of another shape */
            weft_tensors bad = w->grads;
            bad.count -= op[4] & 1;
            if (bad.count != w->grads.count) grawa_step(w->g, &bad);
            break;
        }
        case 11: grawa_average(w->g, (grawa_model)(2 + op[4]), NULL, NULL); break;
        case 12: grawa_start(w->g); break;
        default: {
            grawa_stats_t st;
            grawa_desc e;
            grawa_group_t g;
            grawa_stats(w->g, &st);
            grawa_effective(w->g, &e);
            grawa_group(w->g, op[4], &g);
            grawa_weight(w->g, op[4], op[5]);
        }
        }
        fleet_look(w, "a verb between steps");
    }
}

static void fail(const char *why) {
    fprintf(stderr, "%s\n", why);
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t small[3] = {5, 0, 9}, large[3] = {150, 0, 21};
    static const weft_status statuses[4] = {WEFT_ERR_TRANSPORT, WEFT_ERR_PEER_LOST, WEFT_ERR_TRUNCATED,
                                            WEFT_ERR_MEMORY};
    static fleet f;
    fleet_desc d;
    size_t i;
    uint32_t n, r;
    int bits, forged = 0, ok;
    if (size < 2) return 0;
    bits = data[0];
    n = 2 + data[1] % 2;
    script = data + 2;
    operations = (size - 2) / OPERATION;
    if (operations > MOST_OPERATIONS) operations = MOST_OPERATIONS;
    for (i = 0; i < operations; i++) {
        int what = script[i * OPERATION] % DO_KINDS;
        forged |= what <= DO_INJECT_BULK;
    }
    d = fleet_default(data[1] / 2, n);
    if (bits & 1) d.grawa.trigger = GRAWA_TRIGGER_TOTAL;
    if (bits & 2) d.grawa.proximal = 0.25;
    if (bits & 4) d.grawa.source = GRAWA_SOURCE_PROBE;
    if (bits & 8) d.grawa.partial_deadline_ns = 4000;
    if (bits & 16) d.grawa.weighting = GRAWA_BY_LAYER;
    if (bits & 32) d.grawa.guard = GRAWA_GUARD_REJECT;
    if (bits & 64) d.grawa.check_replicas = 0;
    d.count = bits & 128 ? large : small;
    if (bits & 128) d.grawa.algorithm = (weft_algorithm)(1 + data[1] / 2 % 4);
    d.sim.mode = (weft_sim_mode)(data[1] / 8 % 4);
    d.sim.eager_bytes = 100;
    d.sim.max_message_bytes = data[1] & 64 ? 256 : 0;
    d.sim.on_message = on_message;
    d.sim.user = &f;
    d.step_ns[0] = 2000;
    d.step_ns[1] = 3000 + (data[1] & 128 ? 6000 : 0);
    d.step_ns[2] = 1500;
    d.most_steps = 400;
    d.after_step = after_step;
    d.grawa.timeout_ns = 100000;
    d.policy = forged ? FLEET_STOP : FLEET_REGROUP;
    /* ring and doubling sum in an order that the oracle does not know; changed parameters (a verb) it does not know
     * either */
    d.no_oracle = forged || d.grawa.algorithm >= WEFT_ALGORITHM_RING;
    for (i = 0; i < operations; i++)
        if (script[i * OPERATION] % DO_KINDS == DO_VERB) d.no_oracle |= script[i * OPERATION + 3] % 14 == 4;
    ok = fleet_open(&f, &d);
    for (i = 0; ok && i < operations; i++) {
        const uint8_t *op = script + i * OPERATION;
        uint32_t src = op[1] % n, dst = (src + 1 + op[1] / 4 % (n - 1)) % n;
        unsigned char bytes[WEFT_CONTROL_BYTES];
        switch (op[0] % DO_KINDS) {
        case DO_XOR: weft_sim_corrupt(&f.sim, src, dst, WEFT_SIM_ANY, op[2] + 1u, op[3], op[4]); break;
        case DO_RESIZE: weft_sim_resize(&f.sim, src, dst, WEFT_SIM_ANY, op[2] + 1u, op[4] + (op[5] % 8u) * 256u); break;
        case DO_INJECT_RAW: weft_sim_inject(&f.sim, op[2] + 1u, src, dst, op[3] % 4 ? 0 : op[3], op + 4, 8); break;
        case DO_INJECT_HEADER: {
            weft_header h;
            memset(&h, 0, sizeof h);
            memset(bytes, op[10], sizeof bytes);
            h.kind = 1u + op[3] % 7u;
            h.sender = src;
            h.epoch = op[4] & 1;
            h.round = op[4] / 2 % 4;
            h.step = op[5] & 1 ? WEFT_STEP_HAVE : op[5] / 2u;
            h.piece = 64;
            h.payload = op[6] % (WEFT_INLINE_BYTES + 1);
            h.bytes = op[7] & 1 ? h.payload : op[8];
            h.arg0 = op[9];
            weft_sim_inject(&f.sim, op[2] + 1u, src, dst, 0, bytes, weft_header_write(bytes, &h));
            break;
        }
        case DO_INJECT_BULK: weft_sim_inject(&f.sim, op[2] + 1u, src, dst, 1u + op[3] % 2u, op + 4, op[3] % 9u); break;
        case DO_LOSE: weft_sim_lose_at_message(&f.sim, src, op[2] + 1u, op[3] & 1); break;
        case DO_FAIL:
            weft_sim_fail_call(&f.sim, (weft_sim_call)(op[3] % 3), src, op[2] + 1u,
                               forged ? statuses[op[4] % 4] : statuses[op[4] % 2]);
            break;
        default: break;
        }
    }
    ok = ok && fleet_run(&f, 3);
    if (ok && !forged) ok = fleet_agree(&f);
    for (r = 0; ok && r < n; r++)
        if (!fleet_finite(f.worker[r].kept, f.elements))
            ok = fleet_fail(&f, "worker %u has got numbers that are not finite", r);
    if (!fleet_close(&f)) fail(f.why);
    return 0;
}
