/* SPDX-License-Identifier: MIT
 * libFuzzer: what comes off the wire, through the whole public API of subspace.h. The input is a script for a simulated
 * run of two to four workers: which messages are changed and how, what is injected, who is lost or leaves, which
 * callbacks fail, which verbs are called when.
 *
 *   bytes 0, 1   settings of the round      byte 2   workers and network      byte 3   what the hosts do
 *   then         operations of 12 bytes: what, whom, which, where, eight bytes of value
 *
 * What must hold: nobody reads or writes out of bounds, every worker comes to its end within a bound, every aggregate
 * is finite; and if no message was forged, the crew's oracle holds for every bit, and who was lost may come back. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define SUBSPACE_IMPLEMENTATION
#include "../subspace.h"
#include "subspace_crew.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SETTINGS = 4, OPERATION = 12, MOST_OPERATIONS = 24 };

/* The first ones forge. */
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

/* Verbs. */
enum {
    TRY_SAVE,
    TRY_LOAD,
    TRY_BATCH,
    TRY_COMBINE,
    TRY_SUBMIT,
    TRY_NOTHING, /* submitted */
    TRY_LEAVE,
    TRY_BAD_RANK,
    TRY_BAD_VIEW,
    TRY_READING,
    TRY_VIEW, /* a new view, although nothing has failed */
    TRY_LINK, /* the host says that somebody is lost who is not, and has a new view */
    TRY_KINDS
};

static const uint8_t *script;
static size_t operations;
static uint64_t verbs[CREW_MOST];   /* of each worker, so far */
static uint32_t commits[CREW_MOST]; /* that have been looked at */
static int forged;

static uint64_t value_of(const uint8_t *op) {
    return weft_get64(op + 4);
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
    crew *f = (crew *)user;
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
            if (op[3] < 64) {
                set_field(&h, op[3], value_of(op));
            } else { /* the payload, at some place */
                uint64_t v = value_of(op);
                size_t k, at = op[3] - 64u;
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

static void fail(const char *why) {
    fprintf(stderr, "%s\n", why);
    abort();
}

static void refused(crew_worker *w, weft_status s, const char *verb) {
    if (s >= 0) crew_fail(w->f, "worker %lu: %s should have been refused", (unsigned long)w->rank, verb);
}

/* Gradients in one address space: too many, too few, of another shape or type, under samples that cannot be. */
static void try_combine(crew_worker *w, const uint8_t *op) {
    weft_tensors list[3] = {w->grads, w->grads, w->grads}, out = w->grads;
    weft_tensor other[8];
    double samples[3] = {1, 1, 1};
    uint32_t n = 2;
    memcpy(other, w->grads.tensor, w->grads.count * sizeof *other);
    switch (op[4] % 5) {
    case 0: n = op[5] % 2 ? 0 : 3 + op[6] * 0x1000000u; break;
    case 1: list[op[5] % 2].count -= 1; break;
    case 2:
        other[op[5] % w->grads.count].count ^= 1;
        list[1].tensor = other;
        break;
    case 3:
        other[op[5] % w->grads.count].dtype = (weft_dtype)(1 + op[6] % 3 * 100);
        out.tensor = other;
        break;
    default: samples[op[5] % 2] = op[6] % 2 ? (double)NAN : -1.0;
    }
    refused(w, subspace_combine(w->a, list, n, samples, &out), "subspace_combine");
}

static void try_reading(const crew_worker *w, const uint8_t *op) {
    subspace_stats_t stats;
    subspace_desc d;
    subspace_worker_t one;
    double slot[1];
    uint32_t rank[1];
    subspace_stats(w->a, &stats);
    subspace_effective(w->a, &d);
    subspace_worker(w->a, op[4], op[5], &one);
    subspace_slots(w->a, op[5], slot, op[6] % 2);
    subspace_scale_of(w->a, op[5]);
    subspace_members(w->a, rank, op[6] % 2);
    subspace_detail(w->a);
}

/* Verbs between the verbs, sensible and not, that leave the host's business as it is. */
static void try_verb(crew_worker *w, const uint8_t *op) {
    static unsigned char blob[8192];
    crew *f = w->f;
    const uint32_t may = subspace_state(w->a);
    const size_t tensors = w->grads.count;
    uint32_t members[5] = {op[4] % 5u, op[5] % 5u, 0, 0, 0};
    size_t n = 0, i, first = op[4] % 5u, count = op[5] % 5u;
    weft_status s;
    weft_view v;
    switch (op[3] % TRY_KINDS) {
    case TRY_SAVE: subspace_save(w->a, blob, op[4] * 32u, &n); break;
    case TRY_LOAD: refused(w, subspace_load(w->a, op + 4, 8), "subspace_load"); break;
    case TRY_BATCH: subspace_set_batch(w->a, op[4] - 3.0); break;
    case TRY_COMBINE: try_combine(w, op); break;
    case TRY_SUBMIT: /* what is not there, or was submitted already */
        for (i = first; i < first + count && i < tensors && !w->a->submitted[i]; i++) continue;
        if (i == first + count && first + count <= tensors) break;
        refused(w, subspace_submit(w->a, op[6] % 2 ? first : SIZE_MAX - first, op[7] % 2 ? count : SIZE_MAX - count),
                "subspace_submit");
        break;
    case TRY_NOTHING: /* as good as polling */
        if (!(may & SUBSPACE_MAY_SUBMIT)) break;
        s = subspace_submit(w->a, first < tensors ? first : tensors, 0);
        if (w->status == WEFT_AGAIN || s < 0) w->status = s;
        break;
    case TRY_LEAVE:
        if (!(may & SUBSPACE_MAY_SAVE)) refused(w, subspace_leave(w->a), "subspace_leave");
        break;
    case TRY_BAD_RANK:
        refused(w, subspace_peer_up(w->a, op[4] % 2 ? w->rank : f->size + op[5]), "subspace_peer_up");
        refused(w, subspace_peer_lost(w->a, op[4] % 2 ? w->rank : f->size + op[5]), "subspace_peer_lost");
        break;
    case TRY_BAD_VIEW:
        memset(&v, 0, sizeof v);
        v.struct_size = op[6] % 4 ? sizeof v : 1;
        v.count = op[7] % 6u;
        v.members = members;
        v.epoch = w->epoch; /* too old in any case */
        refused(w, subspace_regroup(w->a, &v), "subspace_regroup");
        break;
    case TRY_READING: try_reading(w, op); break;
    case TRY_VIEW:
        if (f->epoch < CREW_VIEWS && w->epoch == f->epoch) crew_new_view(f);
        break;
    default:
        if (f->epoch < CREW_VIEWS && w->epoch == f->epoch) {
            subspace_peer_lost(w->a, (w->rank + 1) % f->size);
            crew_new_view(f);
        }
    }
}

/* After every verb. */
static void meddle(crew_worker *w) {
    const uint64_t number = verbs[w->rank]++;
    size_t i;
    for (i = 0; i < w->f->elements && w->commits > commits[w->rank]; i++) /* it has committed a round */
        if (!isfinite(w->kept[i]))
            crew_fail(w->f, "worker %lu: an aggregate that is not finite", (unsigned long)w->rank);
    commits[w->rank] = w->commits;
    for (i = 0; i < operations && w->status >= 0; i++) {
        const uint8_t *op = script + i * OPERATION;
        if (op[0] % DO_KINDS == DO_VERB && op[1] % w->f->size == w->rank && op[2] == number) try_verb(w, op);
    }
}

/* Now and then a gradient that is not finite, or one that makes the aggregate overflow. */
static void spoil(crew_worker *w) {
    float *x = (float *)w->grads.tensor[0].data;
    if (w->attempts % 3 != 2) return;
    if (w->f->desc.data_seed % 2)
        x[w->attempts % 5] = w->rank % 2 ? NAN : INFINITY;
    else
        x[0] = 1e30f;
}

static crew_desc settings(const uint8_t *data) {
    static const size_t small[4] = {5, 0, 9, 2}, large[4] = {150, 1, 0, 75};
    static const uint32_t group_of[4] = {0, 1, 0, 1};
    const int rule = data[0], more = data[1], net = data[2], host = data[3];
    const uint32_t n = 2 + (uint32_t)net % 3;
    crew_desc d = crew_default((uint64_t)net / 3, n);
    uint32_t r;
    d.tensors = 4;
    d.count = rule & 1 ? large : small;
    d.parts = 1 + (uint32_t)(rule >> 1 & 3) % 3;
    if (rule & 8) {
        d.s.groups = 2;
        d.s.group_of_tensor = group_of;
    }
    d.s.rule = (subspace_rule)((rule >> 4 & 3) % 3);
    if (rule & 64) d.s.guard = SUBSPACE_GUARD_REJECT;
    d.s.in_place = rule >> 7;
    d.sim.shared = net >= 144 && !forged; /* whom one shares one's memory with is not a stranger */
    if (d.s.in_place && !d.sim.shared) d.s.guard = SUBSPACE_GUARD_EXCLUDE;
    if (more & 1) d.s.assignment = SUBSPACE_FORWARD;
    d.s.scale = d.s.rule == SUBSPACE_MEAN ? SUBSPACE_SCALE_DEFAULT : (subspace_scale)(more >> 1 & 3);
    d.s.negative = (subspace_negative)((more >> 3 & 3) % 3);
    d.s.here = 2;
    d.s.timeout_ns = 100000;
    d.spoil = more & 32 ? spoil : NULL;
    for (r = 0; r < n && more & 64; r++) d.samples[r] = 1 + r;
    d.impatient = more >> 7;
    d.sim.mode = (weft_sim_mode)(net / 3 % 4);
    d.sim.eager_bytes = 100;
    d.sim.max_message_bytes = net / 12 & 1 ? 256 : 0;
    if (net / 24 & 1) {
        d.sim.coy = d.sim.spurious = 5;
        d.sim.shuffle = 1;
        d.sim.detect_ns = 4000;
    }
    d.step_ns[0] = 2000;
    d.step_ns[1] = 3000 + (uint64_t)(net / 48 % 3) * 3000;
    d.step_ns[2] = 1500;
    d.step_ns[3] = 2500;
    d.leave_at[host % 4] = (uint64_t)(host >> 2) % 4;
    for (r = 0; r < n; r++) d.view_ns[r] = host & 16 ? (r + 1) % 3 * 1700 : 0;
    d.deaf = host >> 5 & 1;
    /* a forger is answered with new views, or with the end */
    d.policy = !forged ? CREW_REGROUP : host & 64 ? CREW_INSIST : CREW_STOP;
    d.most_attempts = 100;
    return d;
}

static void plan(crew *f) {
    static const weft_status statuses[4] = {WEFT_ERR_TRANSPORT, WEFT_ERR_PEER_LOST, WEFT_ERR_TRUNCATED,
                                            WEFT_ERR_MEMORY};
    size_t i;
    for (i = 0; i < operations; i++) {
        const uint8_t *op = script + i * OPERATION;
        const uint32_t src = op[1] % f->size, dst = (src + 1 + op[1] / 4 % (f->size - 1)) % f->size;
        unsigned char bytes[WEFT_CONTROL_BYTES];
        weft_header h;
        switch (op[0] % DO_KINDS) {
        case DO_XOR: weft_sim_corrupt(&f->sim, src, dst, WEFT_SIM_ANY, op[2] + 1u, op[3], op[4]); break;
        case DO_RESIZE:
            weft_sim_resize(&f->sim, src, dst, WEFT_SIM_ANY, op[2] + 1u, op[4] + (op[5] % 8u) * 256u);
            break;
        case DO_INJECT_RAW: weft_sim_inject(&f->sim, op[2] + 1u, src, dst, op[3] % 4 ? 0 : op[3], op + 4, 8); break;
        case DO_INJECT_HEADER:
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
            h.arg0 = op[9] < 128 ? op[9] : weft_double_bits(op[9] - 127.0);
            weft_sim_inject(&f->sim, op[2] + 1u, src, dst, 0, bytes, weft_header_write(bytes, &h));
            break;
        case DO_INJECT_BULK: weft_sim_inject(&f->sim, op[2] + 1u, src, dst, 1u + op[3] % 2u, op + 4, op[3] % 9u); break;
        case DO_LOSE: weft_sim_lose_at_message(&f->sim, src, op[2] + 1u, op[3] & 1); break;
        case DO_FAIL:
            weft_sim_fail_call(&f->sim, (weft_sim_call)(op[3] % 3), src, op[2] + 1u,
                               forged ? statuses[op[4] % 4] : statuses[op[4] % 2]);
            break;
        default: break;
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static crew f;
    crew_desc d;
    size_t i;
    uint32_t r;
    int ok;
    if (size < SETTINGS) return 0;
    script = data + SETTINGS;
    operations = (size - SETTINGS) / OPERATION;
    if (operations > MOST_OPERATIONS) operations = MOST_OPERATIONS;
    memset(verbs, 0, sizeof verbs);
    memset(commits, 0, sizeof commits);
    forged = 0;
    for (i = 0; i < operations; i++) forged |= script[i * OPERATION] % DO_KINDS <= DO_INJECT_BULK;
    d = settings(data);
    d.sim.on_message = on_message;
    d.sim.user = &f;
    d.meddle = meddle;
    d.no_oracle = forged;
    for (i = 0; i < operations; i++) /* of other samples the oracle does not know */
        if (script[i * OPERATION] % DO_KINDS == DO_VERB)
            d.no_oracle |= script[i * OPERATION + 3] % TRY_KINDS == TRY_BATCH;
    ok = crew_open(&f, &d);
    if (ok) plan(&f);
    ok = ok && crew_run(&f, 3);
    if (ok && !forged) {
        ok = crew_agree(&f);
        for (r = 0; ok && data[3] & 128 && r < f.size; r++)
            if (!weft_sim_alive(&f.sim, r)) ok = crew_rejoin(&f, r) && crew_run(&f, 5 + 2 * r) && crew_agree(&f);
    }
    if (!crew_close(&f)) fail(f.why);
    return 0;
}
