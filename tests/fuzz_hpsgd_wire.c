/* SPDX-License-Identifier: MIT
 * libFuzzer: what comes off the wire, through the whole public API of hpsgd.h. The input is a script for a simulated
 * run of two to four workers: which messages are changed and how, what is injected, who is lost or leaves, which
 * callbacks fail, which verbs are called when.
 *
 *   bytes 0, 1   mode, schedule, payload, type      byte 2   workers and network      byte 3   what the hosts do
 *   byte 4       who leaves, who is spoilt, views   byte 5   steps
 *   then         operations of 12 bytes: what, whom, which, where, eight bytes of value
 *
 * What must hold: nobody reads or writes out of bounds, every worker comes to its end within a bound (where something
 * was forged an error is one), the global model changes in a merge only, and a payload not at all while it is under
 * way; and if no message was forged, the crew's oracle holds for every bit, and who was lost may come back. */
#define WEFT_NO_SIMD /* asking the processor takes longer than a run */
#include "../grawa.h"
/* so small that models of some hundred numbers are summed in many slabs and chunks */
#undef WEFT_GATHER_BYTES
#undef WEFT_CHUNK_BYTES
#define WEFT_GATHER_BYTES ((size_t)24)
#define WEFT_CHUNK_BYTES ((size_t)128)
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#define HPSGD_IMPLEMENTATION
#include "../hpsgd.h"
/* what surrounds it is not to be explored, and is slow enough */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
#include "hpsgd_crew.h"
#pragma clang attribute pop

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SETTINGS = 6, OPERATION = 12, MOST_OPERATIONS = 24, MOST_VIEWS = 5, MOST_TIMEOUTS = 3, MOST_TURNS = 20000 };

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
    TRY_STEP,
    TRY_DRAIN,
    TRY_LEAVE,
    TRY_START,
    TRY_POLL,
    TRY_PROGRESS,
    TRY_SET_STEPS,
    TRY_SET_VOID,
    TRY_MODEL,
    TRY_BAD_RANK,
    TRY_BAD_VIEW,
    TRY_READING,
    TRY_VIEW, /* a new view, although nothing has failed */
    TRY_LINK, /* the host says that somebody is lost who is not, and has a new view */
    TRY_KINDS
};

static const uint8_t *script;
static size_t operations;
static uint32_t turns[CREW_MOST], timeouts[CREW_MOST], alarmed[CREW_MOST]; /* of each worker, so far */
static int forged, failing, insists;

static uint64_t value_of(const uint8_t *op) {
    return weft_get64(op + 4);
}

/* ---- messages ---- */

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

/* A control message: a field of its header, or some of what follows it. Returns its length. */
static size_t change_control(unsigned char *bytes, size_t n, uint32_t src, const uint8_t *op) {
    weft_header h;
    weft_detail why;
    unsigned char copy[WEFT_CONTROL_BYTES];
    memcpy(copy, bytes, sizeof copy);
    if (weft_header_read(copy, n, src, &h, &why) != WEFT_OK) return n;
    if (op[3] < 64) {
        set_field(&h, op[3], value_of(op));
    } else { /* a record, a row of the agreement, a change */
        uint64_t v = value_of(op);
        size_t k, at = op[3] - 64u;
        for (k = 0; k < 8 && at + k < WEFT_INLINE_BYTES; k++)
            bytes[WEFT_HEADER_BYTES + at + k] = (unsigned char)(v >> (8 * k));
    }
    return weft_header_write(bytes, &h);
}

/* The n-th message of all is replaced while it is sent: a control message, or numbers in bulk. */
static void on_message(void *user, const weft_sim_message *m) {
    crew *f = (crew *)user;
    unsigned char control[WEFT_CONTROL_BYTES], *bytes = control;
    const int is_control = m->tag % WEFT_TAGS_PER_CHANNEL == 0 && m->bytes <= sizeof control;
    size_t i, k, n = m->bytes;
    int changed = 0;
    for (i = 0; i < operations && n <= 65536; i++) {
        const uint8_t *op = script + i * OPERATION;
        const int what = op[0] % DO_KINDS;
        if ((what != DO_FORGE && what != DO_RAW) || op[2] + 1u != m->number) continue;
        if (!changed++) {
            if (!is_control) bytes = (unsigned char *)malloc(n + 1);
            memset(bytes, 0, is_control ? sizeof control : n);
            memcpy(bytes, m->data, n);
        }
        if (is_control && what == DO_FORGE)
            n = change_control(bytes, n, m->src, op);
        else
            for (k = op[3] % 8u; k < n; k += op[1] % 32u + 1) bytes[k] = op[4 + k % 8];
    }
    if (changed) weft_sim_replace(&f->sim, m->src, m->dst, m->tag, 1, bytes, n);
    if (bytes != control) free(bytes);
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
            h.round = op[4] / 2 % 8;
            h.step = op[5] & 1 ? WEFT_STEP_HAVE + (op[5] >> 1 & 1) : op[5] / 2u;
            h.piece = 64;
            h.payload = op[6] % (WEFT_INLINE_BYTES + 1);
            h.bytes = op[7] & 1 ? h.payload : op[8];
            h.arg0 = op[9];
            weft_sim_inject(&f->sim, op[2] + 1u, src, dst, 0, bytes, weft_header_write(bytes, &h));
            break;
        case DO_INJECT_BULK: weft_sim_inject(&f->sim, op[2] + 1u, src, dst, 1u + op[3] % 2u, op + 4, op[3] % 9u); break;
        case DO_LOSE: weft_sim_lose_at_message(&f->sim, src, op[2] + 1u, op[3] & 1); break;
        case DO_FAIL:
            weft_sim_fail_call(&f->sim, (weft_sim_call)(op[3] % 3), src, op[2] + (op[4] & 16u ? 257u : 1u),
                               forged ? statuses[op[4] % 4] : statuses[op[4] % 2]);
            break;
        default: break;
        }
    }
}

/* ---- verbs between the verbs, sensible and not, that leave the host's business as it is ---- */

static void refused(crew_worker *w, weft_status s, const char *verb) {
    const weft_detail *d = hpsgd_detail(w->h);
    if (s >= 0) crew_fail(w->c, "worker %lu: %s should have been refused", (unsigned long)w->rank, verb);
    if (s < 0 && (d->status != s || !d->field)) crew_fail_detail(w, "a refusal does not say why");
}

/* A verb that goes on with what there is has answered: as if the host had asked on its own account. */
static void answered(crew_worker *w, weft_status s) {
    if (s == WEFT_STALL) {
        w->doing = CREW_WAITS;
        w->status = s;
    } else if (w->doing == CREW_WAITS || w->doing == CREW_ENDS) {
        w->status = s < 0 ? WEFT_AGAIN : s; /* errors stay */
    }
}

static void try_save(crew_worker *w, const uint8_t *op) {
    const size_t room = op[4] * 32u;
    unsigned char *blob = (unsigned char *)malloc(room + 1);
    size_t n = SIZE_MAX;
    const int may = (hpsgd_state(w->h) & HPSGD_MAY_SAVE) != 0;
    const weft_status s = hpsgd_save(w->h, blob + 1, room, &n);
    if (!may)
        refused(w, s, "hpsgd_save");
    else if (s == WEFT_AGAIN ? n != SIZE_MAX : s == WEFT_OK ? n > room : s != WEFT_ERR_CAPACITY || n <= room)
        crew_fail(w->c, "worker %lu: hpsgd_save says %s, %lu bytes", (unsigned long)w->rank, weft_strerror(s),
                  (unsigned long)n);
    if (s == WEFT_OK && !(hpsgd_state(w->h) & HPSGD_MAY_LOAD)) refused(w, hpsgd_load(w->h, blob + 1, n), "hpsgd_load");
    free(blob);
}

/* The global model, into what does not fit now and then. */
static void try_model(crew_worker *w, const uint8_t *op) {
    static double room[2][CREW_MOST * CREW_STEPS];
    weft_tensor t[3];
    weft_tensors into;
    size_t i, wrong = op[4] % 8u;
    into.tensor = t;
    into.count = w->params.count;
    memcpy(t, w->params.tensor, into.count * sizeof *t);
    for (i = 0; i < into.count; i++) t[i].data = i == 1 ? NULL : room[i / 2];
    if (wrong == 0) into.count--;
    if (wrong == 1) t[0].count--;
    if (wrong == 2) t[0].dtype = t[0].dtype == WEFT_F64 ? WEFT_F32 : WEFT_F64;
    if (wrong == 3) t[0].data = NULL;
    if (wrong < 4 || op[5] % 8 == 0) {
        refused(w, hpsgd_model(w->h, wrong < 4 ? &into : NULL), "hpsgd_model");
        return;
    }
    if (hpsgd_model(w->h, &into) != WEFT_OK) crew_fail_detail(w, "hpsgd_model");
    for (i = 0; i < into.count; i++)
        if (t[i].count &&
            memcmp(t[i].data, w->h->w + w->h->map.position[i], t[i].count * weft_dtype_bytes(t[i].dtype)) != 0)
            crew_fail(w->c, "worker %lu: hpsgd_model copies something else", (unsigned long)w->rank);
}

static void try_bad(crew_worker *w, const uint8_t *op) {
    crew *f = w->c;
    uint32_t members[5] = {op[4] % 5u, op[5] % 5u, 0, 0, 0};
    weft_view v;
    if (op[3] % TRY_KINDS == TRY_BAD_RANK) {
        refused(w, hpsgd_peer_up(w->h, op[4] % 2 ? w->rank : f->size + op[5]), "hpsgd_peer_up");
        refused(w, hpsgd_peer_lost(w->h, op[4] % 2 ? w->rank : f->size + op[5]), "hpsgd_peer_lost");
        return;
    }
    memset(&v, 0, sizeof v);
    v.struct_size = op[6] % 4 ? sizeof v : 1;
    v.count = op[7] % 6u;
    v.members = op[6] % 16 ? members : NULL;
    v.epoch = w->h->group.epoch;                    /* too old */
    if (v.count % 3 == 0 || v.count > 3) v.epoch++; /* nobody's, or not in order */
    refused(w, hpsgd_regroup(w->h, op[6] % 32 ? &v : NULL), "hpsgd_regroup");
}

static void try_reading(const crew_worker *w, const uint8_t *op) {
    hpsgd_stats_t s;
    hpsgd_desc d;
    uint32_t rank[1];
    hpsgd_stats(w->h, &s);
    if (s.steps != s.steps_merged + s.steps_lost + s.steps_pending)
        crew_fail(w->c, "worker %lu: the steps do not add up", (unsigned long)w->rank);
    hpsgd_effective(w->h, &d);
    if (!d.min_steps || d.min_steps > d.max_steps) crew_fail(w->c, "min_steps and max_steps make no sense");
    if (hpsgd_members(w->h, rank, op[4] % 2) > w->c->size) crew_fail(w->c, "more members than workers");
    hpsgd_events(w->h);
}

static void try_verb(crew_worker *w, const uint8_t *op) {
    crew *f = w->c;
    hpsgd *h = w->h;
    const uint32_t may = hpsgd_state(h);
    weft_status s;
    switch (op[3] % TRY_KINDS) {
    case TRY_SAVE: try_save(w, op); break;
    case TRY_LOAD: refused(w, hpsgd_load(h, op + 4, 8), "hpsgd_load"); break;
    case TRY_STEP:
        if (!(may & HPSGD_MAY_STEP)) refused(w, hpsgd_step(h), "hpsgd_step");
        break;
    case TRY_DRAIN:
        if (h->leaving) refused(w, hpsgd_drain(h), "hpsgd_drain");
        if (h->draining) answered(w, hpsgd_drain(h));
        break;
    case TRY_LEAVE:
        if (!(may & HPSGD_MAY_STEP)) refused(w, hpsgd_leave(h), "hpsgd_leave");
        break;
    case TRY_START:
        if (may & HPSGD_MAY_STEP)
            answered(w, hpsgd_start(h));
        else
            refused(w, hpsgd_start(h), "hpsgd_start");
        break;
    case TRY_POLL: answered(w, hpsgd_poll(h)); break;
    case TRY_PROGRESS: hpsgd_progress(h); break;
    case TRY_SET_STEPS:
        s = hpsgd_set_steps(h, op[4] % 5u, op[5] % 9u);
        if (s < 0) refused(w, s, "hpsgd_set_steps");
        break;
    case TRY_SET_VOID:
        s = hpsgd_set_void(h, (hpsgd_void)(op[4] % 3));
        if (s < 0) refused(w, s, "hpsgd_set_void");
        break;
    case TRY_MODEL: try_model(w, op); break;
    case TRY_BAD_RANK:
    case TRY_BAD_VIEW: try_bad(w, op); break;
    case TRY_READING: try_reading(w, op); break;
    case TRY_VIEW:
        if (w->epoch == f->epoch) crew_new_view(f);
        break;
    default:
        if (w->epoch != f->epoch) break;
        hpsgd_peer_lost(h, (w->rank + 1) % f->size);
        crew_new_view(f);
    }
    crew_look(w, "a verb in between");
}

/* ---- the hosts ---- */

/* What cannot end otherwise: the others see it as lost. */
static int give_up(crew_worker *w) {
    w->out = 1;
    weft_sim_lose(&w->c->sim, w->rank);
    return 1;
}

/* Where messages are forged any error may come. The host insists (on a new view) or gives up; either is an end. */
static int judge(crew_worker *w, uint64_t errors, int done) {
    crew *f = w->c;
    const int said = f->why[0] && strstr(f->why, ": run: ") != NULL; /* an error, not the oracle */
    const weft_status s = w->last_detail.status;
    if (f->why[0] && !said) return 1;
    f->why[0] = 0;
    if (!weft_sim_alive(&f->sim, w->rank)) return 1;
    if (w->errors > errors) {
        timeouts[w->rank] += s == WEFT_ERR_TIMEOUT;
        if (s != WEFT_ERR_TIMEOUT && (!insists || f->epoch % 65534 >= MOST_VIEWS)) return give_up(w);
        if (timeouts[w->rank] >= MOST_TIMEOUTS) return give_up(w);
        if (s != WEFT_ERR_TIMEOUT && w->epoch == f->epoch) crew_new_view(f);
        if (f->epoch > w->epoch && !f->in_view[w->rank]) return give_up(w);
    }
    if (done && !said) return 1;
    weft_sim_wake(&f->sim, w->rank, f->sim.now + (done ? 1 : f->desc.h.timeout_ns));
    return 0;
}

/* Whose parameters all were to take over is gone before anybody has: there is no other end. */
static int nobody_to_copy(const crew_worker *w) {
    const crew *f = w->c;
    return f->desc.h.initial == HPSGD_INITIAL_COPY && strstr(f->why, "initial_rank (not a member)") &&
           !f->in_view[f->desc.h.initial_rank];
}

/* Is there a view that this worker is not in yet? */
static int behind(const crew_worker *w) {
    const crew *f = w->c;
    return !f->why[0] && f->epoch > w->epoch && f->in_view[w->rank] && !w->out && !w->left;
}

static int act(crew_worker *w) {
    crew *f = w->c;
    const uint64_t errors = w->errors;
    const uint32_t number = turns[w->rank]++, epoch = f->epoch, was = w->epoch;
    size_t i;
    int done;
    if (forged) f->remembered = 0; /* models may differ */
    for (i = 0; i < operations && !w->out && !w->left && !f->why[0] && w->doing != CREW_DONE; i++) {
        const uint8_t *op = script + i * OPERATION;
        if (op[0] % DO_KINDS == DO_VERB && op[1] % f->size == w->rank && op[2] == number) try_verb(w, op);
    }
    if (w->doing == CREW_DONE && behind(w) && !crew_told(w)) return 0;
    done = crew_turn(w, w->rank);
    if (forged) return judge(w, errors, done);
    if (f->why[0] && nobody_to_copy(w)) {
        f->why[0] = 0;
        return give_up(w);
    }
    /* with a call that failed a message of the view to come may have gone: another one */
    if (failing && w->errors > errors && w->last_detail.status != WEFT_ERR_TIMEOUT && f->epoch == epoch &&
        was < epoch && alarmed[w->rank] != was + 1) {
        alarmed[w->rank] = was + 1;
        crew_new_view(f);
    }
    return done && !behind(w);
}

static int turn(void *user, uint32_t rank) {
    crew *f = ((crew_worker *)user)->c;
    const uint32_t epoch = f->epoch;
    const int done = act((crew_worker *)user);
    uint32_t r;
    for (r = 0; r < f->size && f->epoch != epoch; r++) /* whoever thought that all is over has something to do */
        if (r != rank && f->in_view[r] && !f->worker[r].out) weft_sim_worker(&f->sim, r, turn, &f->worker[r]);
    return done;
}

/* As crew_run, with a turn of our own. */
static int run(crew *f) {
    uint32_t r;
    int i;
    if (f->why[0]) return 0;
    for (i = 0; i < 4; i++)
        for (r = 0; r < f->size && f->desc.again_ns[i] > f->sim.now; r++)
            if (weft_sim_alive(&f->sim, r)) weft_sim_wake(&f->sim, r, f->desc.again_ns[i]);
    for (r = 0; r < f->size; r++)
        if (weft_sim_alive(&f->sim, r)) weft_sim_worker(&f->sim, r, turn, &f->worker[r]);
    if (weft_sim_run(&f->sim, MOST_TURNS) != WEFT_SIM_DONE) return crew_fail(f, "end: %s", weft_sim_text(&f->sim));
    return !f->why[0];
}

/* ---- settings ---- */

/* Parameters that are to be taken over. */
static int differs(crew_worker *w) {
    size_t at = w->c->elements - 1;
    weft_tensor *t = crew_at(&w->params, &at);
    if (w->rank != w->desc.initial_rank) cluster_set(t, at, 0.5);
    return 1;
}

static crew_desc settings(const uint8_t *data) {
    static const double carry[4] = {0, 0.5, 1, 0.25};
    const int rule = data[0], more = data[1], net = data[2], host = data[3], who = data[4];
    const uint32_t n = 2 + (uint32_t)net % 3;
    crew_desc d = crew_default((uint64_t)net / 3, n);
    uint32_t r;
    d.h.mode = (hpsgd_mode)((rule & 3) % 3);
    d.h.keep_delta = rule & 4 ? WEFT_ZERO : 0;
    d.h.carry = carry[rule >> 3 & 3];
    d.dtype = rule & 32 ? WEFT_F64 : WEFT_F32;
    if ((rule & 96) == 64) d.h.payload = HPSGD_PAYLOAD_BF16;
    d.pieces = rule >> 7;
    d.h.min_steps = 1 + (uint32_t)(more & 3) % 3;
    d.h.max_steps = d.h.min_steps + (d.h.mode == HPSGD_FREE ? (uint32_t)(more >> 2 & 3) : 0);
    d.h.algorithm = (weft_algorithm)((more >> 4 & 7) % 5);
    d.h.guard = more & 128 ? HPSGD_GUARD_SKIP : HPSGD_GUARD_VOID;
    d.h.on_void = host & 1 ? HPSGD_DROP : HPSGD_REQUEUE;
    d.h.startup = host & 2 ? HPSGD_CONTINUE : HPSGD_ROLL_BACK;
    d.h.check_replicas = host >> 2 & 1;
    if (host & 8) {
        d.h.initial = HPSGD_INITIAL_COPY;
        d.h.initial_rank = (uint32_t)net / 3 % n;
        d.prepare = differs;
    }
    d.h.isa = WEFT_ISA_SERIAL;
    d.deaf = host >> 4 & 1;
    for (r = 0; r < n; r++) {
        d.view_ns[r] = host & 32 ? (r + 1) % 3 * 1700 : 0;
        d.steps[r] = 2 + ((uint32_t)data[5] >> 2 * r & 3) * (rule & 4 ? 1 : 2); /* slabs take long */
    }
    insists = host >> 6 & 1;
    if ((who & 7u) < n - 1) d.leaves[1 + (who & 7u)] = 1;
    if ((who >> 3 & 7u) < n) d.spoil[who >> 3 & 7u] = 1 + (uint32_t)data[5] % 7;
    if (who & 64) {
        d.again_ns[0] = 1000 + data[5] * 40u;
        d.again_ns[1] = d.again_ns[0] + 900;
    }
    d.sim.mode = (weft_sim_mode)(net / 3 % 4);
    d.sim.eager_bytes = 100;
    d.sim.max_message_bytes = net / 12 & 1 ? 256 : 0;
    if (net / 24 & 1) {
        d.sim.coy = d.sim.spurious = 5;
        d.sim.shuffle = 1;
        d.sim.detect_ns = 4000;
    }
    d.step_ns[1] = 1800 + (uint64_t)(net / 48 % 3) * 3000;
    d.step_ns[2] = net / 144 ? 0 : 2500;
    d.h.timeout_ns = forged ? 30000 : net / 144 ? 5000 : 0;
    return d;
}

/* Whoever has said good-bye does nothing more. */
static void after_good_bye(crew *f) {
    uint32_t r;
    for (r = 0; r < f->size; r++) {
        crew_worker *w = &f->worker[r];
        if (!weft_sim_alive(&f->sim, r) || !w->left || w->h->state != HPSGD_LEFT) continue;
        if (hpsgd_state(w->h)) crew_fail(f, "worker %lu has left, and may still do something", (unsigned long)r);
        refused(w, hpsgd_step(w->h), "hpsgd_step");
        refused(w, hpsgd_save(w->h, NULL, 0, NULL), "hpsgd_save");
        refused(w, hpsgd_regroup(w->h, NULL), "hpsgd_regroup");
        if (hpsgd_poll(w->h) != WEFT_OK || hpsgd_progress(w->h) != WEFT_OK) crew_fail_detail(w, "after good-bye");
    }
}

/* Who was lost comes back, if there is anybody to come back to, and to hear of it. */
static int come_back(crew *f, uint32_t rank) {
    uint32_t r, there = 0, deaf = 0;
    for (r = 0; r < f->size; r++) {
        crew_worker *w = &f->worker[r];
        if (r != rank && weft_sim_alive(&f->sim, r)) {
            there += !w->left;
            hpsgd_peer_up(w->h, rank); /* it may have said good-bye before */
            deaf += w->h->group.peer[rank].left != 0;
        }
        f->desc.steps[r] += 2;
        f->desc.view_ns[r] = 0; /* who hears of it when all is over would have to begin anew */
    }
    f->desc.steps[rank] = 3;
    f->desc.leaves[rank] = 0;
    return !there || deaf || (crew_rejoin(f, rank) && run(f) && crew_check(f));
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
    memset(turns, 0, sizeof turns);
    memset(timeouts, 0, sizeof timeouts);
    memset(alarmed, 0, sizeof alarmed);
    forged = failing = 0;
    for (i = 0; i < operations; i++) {
        forged |= script[i * OPERATION] % DO_KINDS <= DO_INJECT_BULK;
        failing |= script[i * OPERATION] % DO_KINDS == DO_FAIL;
    }
    d = settings(data);
    d.sim.on_message = on_message;
    ok = crew_open(&f, &d);
    if (data[4] & 128) /* views of which a round's name only has some bits */
        for (r = 0, f.epoch = 65534; r < f.size; r++) f.worker[r].epoch = f.epoch;
    if (ok) plan(&f);
    ok = ok && run(&f);
    if (ok && !forged) {
        ok = crew_check(&f);
        if (ok) after_good_bye(&f);
        for (r = 0; ok && data[3] & 128 && r < f.size; r++)
            if (!weft_sim_alive(&f.sim, r)) ok = come_back(&f, r);
    }
    if (!crew_close(&f)) {
        fprintf(stderr, "%s\n", f.why);
        abort();
    }
    return 0;
}
