/* SPDX-License-Identifier: MIT
 * subspace.h: gradient aggregation in the gradients' own subspace (AdaCons), in plain C, for training processes of any
 * framework: what takes the place of the mean of the workers' gradients.
 *
 * N workers have gradients g_1 .. g_N of the same model. Their mean weighs all alike. AdaCons looks for the step inside
 * the span of the gradients: worker i counts by how far its direction agrees with the consensus,
 *     alpha_i = <g_i / |g_i|, mean of all g>,   w = alpha / sum(alpha),   psi = sum_i w_i g_i / |g_i|,
 * with an exponential average of the alphas over steps, kept for their order statistics (the k-th smallest has an
 * identity; worker k, which holds other data each step, has not).
 * Y. Choukroun, S. Azoulay, P. Kisilev, arXiv 2411.03742; where it is silent, the authors' published code decides, but
 * for `assignment` (see there).
 *
 * ---- Quick start ----
 *
 *   #define SUBSPACE_IMPLEMENTATION            // in exactly one source file
 *   #include "subspace.h"
 *
 *   weft_tensor t[] = { {dw1, n1, WEFT_F32}, {db1, n2, WEFT_F32} };    // your gradients, where backward leaves them
 *   weft_transport net = weft_transport_make(&my_net, rank, size, my_send, my_recv, my_test, my_cancel, my_now);
 *
 *   subspace_desc d = {sizeof d};              // zero is the default everywhere
 *   d.gradients.tensor = t; d.gradients.count = 2; d.transport = &net;
 *   d.momentum = 0.99; d.timeout_ns = 60000000000u;
 *   size_t bytes = subspace_memory(&d, NULL);  // exact; a report names every buffer
 *   subspace *a; weft_status s = subspace_init(&a, &d, malloc(bytes), bytes);
 *   if (s < 0) return fail(weft_strerror(s), NULL);
 *
 *   for (;;) {
 *       backward(model);
 *       s = subspace_aggregate(a);             // blocking; the gradients now hold the aggregate, the same on all
 *       if (s != WEFT_OK) return fail(weft_strerror(s), subspace_detail(a));
 *       optimiser(model);
 *   }
 *   if ((s = subspace_leave(a)) == WEFT_AGAIN) s = subspace_wait(a);    // a loss may show here, too: see below
 *   subspace_close(a);
 *
 * The five callbacks are your network, or an adapter: their rules are "The transport contract", below; set net.wait,
 * too, if it can sleep. weft_transport_selftest tries yours. After WEFT_ERR_TIMEOUT one may wait again, as long again.
 *
 * So that the exchange runs beside the backward pass: subspace_submit(a, first, count) as soon as the gradients of
 * tensors first .. first + count - 1 are ready (in the same order on all workers), subspace_poll whenever you like, and
 * subspace_wait after the last.
 *
 * ---- After a loss ----
 *
 * When a verb says WEFT_ERR_PEER_LOST, all that are left agree outside of this header on who that is, and each gives
 * the same view under the same, higher epoch:
 *
 *   do {
 *       weft_view view = {sizeof view, ++epoch, count, ranks};      // ascending, with your own; copied
 *       if ((s = subspace_regroup(a, &view)) == WEFT_AGAIN) s = subspace_wait(a);
 *   } while (s == WEFT_ERR_PEER_LOST);          // another one (subspace_detail(a)->peer): once more, without it, too
 *
 * Then WEFT_OK: if tensors of this step had been submitted, the gradients hold the aggregate, and are not to be
 * submitted again (the loss may show after the round has been committed here: stats.rounds has counted it then); if
 * none had, nothing has happened. WEFT_WANT_GRADIENT: submit all of them again. A leave that was under way has been
 * carried to its end. Whoever is done leaves, polls until WEFT_OK, and closes: to end without it may cost the others
 * their last round; those who stay need no regroup for a good-bye. Who leaves tells whoever makes the views before its
 * process ends: it may never have noticed a loss, and a view that names it waits for it.
 *
 * ---- The verbs ----
 *
 * Every verb does a bounded amount of work (but subspace_aggregate and subspace_wait, which poll until there is
 * something to say) and returns: WEFT_OK (done: nothing is in progress), WEFT_AGAIN (in progress: call subspace_poll
 * until it says something else), WEFT_WANT_GRADIENT (the round waits for tensors that are not submitted yet; or, after
 * a regroup, the round has been abandoned: submit all again), or an error (< 0; subspace_detail names who and where).
 * Submitted gradients are lent to the library until WEFT_OK: do not write them. A round commits wholly or not at all:
 * until it commits, the gradients are untouched. subspace_state tells which verbs are legal now; a wrong one is
 * WEFT_ERR_ORDER and changes nothing. One object belongs to one thread at a time. No verb allocates, prints or reads
 * the environment.
 *
 * ---- Which verb when ----
 *
 *                             fresh    idle     busy     lost     left
 *   subspace_submit           y        y        -        -        -
 *   subspace_aggregate        y        y        y        y        -
 *   subspace_poll             y        y        y        y        y
 *   subspace_wait             y        y        y        y        y
 *   subspace_combine          y        y        -        -        -
 *   subspace_set_batch        y        y        -        -        -
 *   subspace_leave            y        y        -        -        -
 *   subspace_regroup          y        y        y        y        -
 *   subspace_peer_lost        y        y        y        y        -
 *   subspace_peer_up          y        y        y        y        -
 *   subspace_save             y        y        -        -        -
 *   subspace_save_to          y        y        -        -        -
 *   subspace_load             y        -        -        -        -
 *   subspace_load_from        y        -        -        -        -
 *
 * fresh: nothing has been called, or setters only. idle: between rounds. busy: a verb has returned WEFT_AGAIN, or
 * tensors are submitted (subspace_submit of those that are not yet). lost: a worker is lost and the view is not
 * settled. left: subspace_leave is done. A dash is WEFT_ERR_ORDER and changes nothing; subspace_state tells the same
 * in bits. The readers (stats, effective, detail, worker, scale_of, state) and subspace_close are legal in all; after
 * close nothing is. In busy, subspace_submit takes tensors that have not been submitted; here all of them were.
 *
 * ---- Threads and callbacks ----
 *
 * One object belongs to one thread at a time; any number of objects may live in a process, each with a `channel` of
 * its own on a shared transport. Transport callbacks and `trace` are called by the thread that called the verb, from
 * within it; the pool's parallel_for is, too, and its bodies run on the pool's threads and call nothing of yours. A
 * callback that calls a verb of its object gets WEFT_ERR_REENTRY; readers and verbs of other objects are allowed.
 * Callbacks must return: only `wait` may sleep.
 *
 * ---- Errors, and what to do ----
 *
 * WEFT_ERR_, all below 0; subspace_detail names peer, phase, field and both values.
 *
 *   ARGUMENT, ABI, MEMORY, OVERFLOW             a descriptor or an argument is wrong: detail.field names it, with what
 *                                               is expected and what was got; nothing has happened
 *   FLOAT_ENV, UNSUPPORTED                      of init: floats are not computed as they must be, or the setting does
 *                                               not exist here
 *   ORDER, REENTRY                              a dash of the table; a verb called from its own callback; nothing has
 *                                               happened
 *   PEER_LOST                                   a member is gone (detail.peer): subspace_regroup with the same new
 *                                               view on all that are left, then poll on
 *   PROTOCOL, TRUNCATED, CHECKSUM, TRANSPORT    a message made no sense, or a callback failed: every verb that
 *                                               communicates says so from now on, until subspace_regroup (without
 *                                               whoever it was), or subspace_close
 *   TIMEOUT                                     nothing has moved for timeout_ns: poll on, or tell of a loss
 *                                               (subspace_peer_lost)
 *   MISMATCH, VERSION                           a worker has other settings, or another version of this header: detail
 *                                               has both values; no number has been mixed. Mend it and begin anew
 *   NONFINITE                                   the round was rejected by all, gradients and state untouched: take
 *                                               another step, or none
 *   CAPACITY                                    of save: detail.expected bytes are needed
 *   ARGUMENT, VERSION, CHECKSUM, MISMATCH       of load: no blob, a damaged one, or one of other settings; the object
 *                                               is as before
 *
 * ---- What a round costs ----
 *
 * The published sequence sums all gradients once for the alphas and once more for the result. Here no sum is formed
 * until the weights are known: worker r receives shard r of every gradient (N - 1 messages of d / N elements), takes
 * its part of all <g_i, s> and <g_i, g_i> (s: the sum of all g) while the shard is in the cache, all exchange these 2 N
 * numbers, and r sends its shard of psi to all. Per worker that is 2 (N - 1) / N times the gradients' bytes on the
 * wire, the same as for the mean, and 24 bytes of memory traffic for each element where the mean has 20.
 * Workers that share their memory (transport->shared: threads of one process) read the shards where they are, and send
 * numbers only (`plan`).
 *
 * ---- Extra memory ----
 *
 * One copy of the gradients, into which the others' pieces and then the aggregate are received, and 64 bytes a worker
 * and chunk of 4 MiB, and a worker and tensor; 2 N^2 + 12 N doubles a group of tensors; about 2 KB a worker for
 * messages, 4 KB more with a pool. subspace_memory names every buffer.
 *
 * With P the bytes of the gradients (each tensor rounded up to 64), on 64-bit machines, without a pool, one group: P +
 * 2.5 KB N + 16 N^2 + 2 KB bytes, and 1 KB for each 4 MB at N = 8; in place min(P, 4 MB) instead of P.
 *
 * ---- In place ----
 *
 * With `in_place` there is no copy: the others' pieces take the place of the shards that were sent, and one chunk of
 * 4 MiB is all that is added (nothing, where memory is shared). The price: a round that is abandoned or rejected may
 * leave the gradients in pieces. Then subspace_state has SUBSPACE_GRADIENTS_LOST: compute them anew before you submit
 * them again. Since rejecting would be the end of the gradients, SUBSPACE_GUARD_REJECT is refused with it, but where
 * memory is shared. A chunk does not go beyond a tensor, so it is for few large tensors; a flat buffer is one.
 *
 * ---- Instruction sets ----
 *
 * Kernels for SSE2, AVX2 and AVX-512 (x86), NEON (aarch64) and wasm simd128, chosen when the object is made by what the
 * machine has, with equal bits; no compiler flags are needed, and -march=native does no harm. `isa` forces one;
 * WEFT_NO_SIMD leaves all but plain C out. Every kernel stands in this file once: it includes itself for each set, by
 * the name subspace.h. If you rename it, define SUBSPACE_HEADER as its new name, with quotes, beside
 * SUBSPACE_IMPLEMENTATION.
 *
 * ---- With your trainer ----
 *
 * learning rate    as for the mean: by default the aggregate is scaled so that its component along the mean gradient is
 *                  the mean gradient (`scale`). Without that its norm is at most 1, whatever the loss.
 * momentum, Adam   take the aggregate as they would the mean. Weight decay goes into your optimiser, not in here.
 * accumulation     sum your micro-batches locally, submit once: common factors cancel but for the scale.
 * clipping         after the aggregate. Clipping each worker before changes who is in the consensus.
 * loss scaling     a common factor on all gradients comes out as that factor (not with SUBSPACE_SCALE_OFF); where it
 *                  changes from step to step, the average over steps remembers the old one for a while. An overflow
 *                  on one worker: `guard`.
 * unequal batches  subspace_set_batch(a, samples): a worker with twice the samples counts as two.
 * frozen, unused   submit zeros; every tensor is submitted every round by everybody.
 * layers           `group_of_tensor`: weights of their own for each group of tensors (each layer, say).
 *
 * ---- What is guaranteed when things fail ----
 *
 * Crash-stop faults. A lost worker shows as WEFT_ERR_PEER_LOST from the next verb that communicates; the host then
 * gives every survivor the same new view with a higher epoch, subspace_regroup, and polls: if any survivor had
 * committed the round, all commit it (WEFT_OK), else all abandon it, gradients untouched (WEFT_WANT_GRADIENT). The
 * average over order statistics begins anew when the number of workers changes or one is new. Slow is not dead:
 * timeout_ns only reports that nothing moves. A gradient that is not finite never enters an aggregate: its worker is
 * left out, and the weights formed among the others, in each group of tensors where it is not; or the round is rejected
 * by all (`guard`), gradients and state untouched. It is rejected in any case, with WEFT_ERR_NONFINITE, if nobody is
 * left in a group, or the aggregate overflows. Squared norms are sums in f64: a gradient with a norm beyond 1e154
 * counts as not finite, and one below 1e-162 as zero. Weights whose sum is zero or below (opposed or zero gradients)
 * fall back to those of the mean, counted in the stats.
 *
 * With shared memory (SUBSPACE_PLAN_SHARED) the other workers read, and in place also write, a worker's gradients, and
 * read its object. So after an error, too, tensors and memory stay until no other worker is in a round with this one:
 * until all have left, closed, or agreed on a view without it; and a worker that is declared lost must really have
 * stopped. subspace_leave sees to that by itself. Where threads come and go as they like, ask for
 * SUBSPACE_PLAN_EXCHANGE.
 *
 * ---- What is assumed of the host ----
 *
 * For each (peer, tag) the transport delivers exactly once, in order, and undamaged; a lost peer is an error or a call
 * of subspace_peer_lost, the same for all survivors sooner or later; a worker that is declared lost sends no more (or
 * as a newcomer). `now` does not go back. The memory given, tensor lists and transport stay where they are until
 * subspace_close. Float arithmetic is IEEE 754, rounding to nearest, without flushing (checked at init). All of it is
 * tested by weft_transport_selftest as far as a test can tell. Who is left after a loss is agreed on outside of this
 * header (by a launcher, a coordinator, or weft_members.h of the repository): subspace_regroup wants the same members
 * under the same epoch on all of them. It copies the view.
 *
 * ---- History ----
 *
 * 0.1.0 the first version. A minor version may change API, messages and blobs, a patch none of them; all workers of a
 * job run one version (CHANGELOG.md of the repository). */
#include "weft/base.h"
#include "weft/tensor.h"
#include "weft/kernels.h"
#include "weft/wide.h"
#include "weft/pool.h"
#include "weft/transport.h"
#include "weft/selftest.h"
#include "weft/wire.h"
#include "weft/device.h"
#include "weft/trace.h"
#include "weft/group.h"
#include "weft/collective.h"
#include "weft/state.h"
/*==== API ====*/

#ifndef SUBSPACE_API
#ifdef SUBSPACE_STATIC
#define SUBSPACE_API static WEFT_UNUSED
#elif defined __cplusplus
#define SUBSPACE_API extern "C"
#else
#define SUBSPACE_API extern
#endif
#endif

typedef struct subspace subspace;

/* How the gradients are put together. p_i: worker i's share of the samples, 1 / N if batches are equal;
 * mean = sum_i p_i g_i; eps: `epsilon`. */
typedef enum subspace_rule {
    SUBSPACE_NORMALISED = 0, /* AdaCons: psi = sum_i c_i g_i, c_i = w_i / (|g_i| + eps), as above */
    SUBSPACE_BASIC = 1,      /* c_i = N p_i <g_i, mean>: one gradient step of the coordinate problem, not normalised */
    SUBSPACE_MEAN = 2        /* c_i = p_i: the plain mean, at the price of the plain mean */
} subspace_rule;

/* Which worker is given which slot of the averaged, sorted alphas. */
typedef enum subspace_assignment {
    SUBSPACE_INVERSE = 0, /* the k-th smallest alpha's worker gets slot k: what the algorithm says */
    /* as the published code runs it, which sorts twice instead of undoing the sort: from three workers on a worker
     * that is opposed to all others may get the best one's weight. To reproduce published results. */
    SUBSPACE_FORWARD = 1
} subspace_assignment;

/* The length of the aggregate. */
typedef enum subspace_scale {
    SUBSPACE_SCALE_DEFAULT = 0, /* PROJECTION, but OFF with SUBSPACE_FORWARD and for SUBSPACE_MEAN */
    SUBSPACE_SCALE_PROJECTION =
        1,                        /* <psi, mean> = |mean|^2; where <psi, mean> is not positive: as MEAN_NORM, counted */
    SUBSPACE_SCALE_MEAN_NORM = 2, /* times sum_i p_i |g_i| */
    SUBSPACE_SCALE_OFF = 3        /* as published: |psi| <= 1 for weights that are not negative */
} subspace_scale;

/* Weights below zero: workers opposed to the consensus. */
typedef enum subspace_negative {
    SUBSPACE_NEGATIVE_KEEP = 0,  /* as published */
    SUBSPACE_NEGATIVE_SHIFT = 1, /* the smallest, if below zero, is taken off all */
    SUBSPACE_NEGATIVE_CLAMP = 2  /* become zero */
} subspace_negative;

/* What a gradient that is not finite does to the round. */
typedef enum subspace_guard {
    /* its worker is left out of the groups where it is; their average over steps sits this round out */
    SUBSPACE_GUARD_EXCLUDE = 0,
    /* WEFT_ERR_NONFINITE on all workers (those whom a regroup finds short of that are told WEFT_WANT_GRADIENT);
     * gradients and state untouched */
    SUBSPACE_GUARD_REJECT = 1
} subspace_guard;

/* How a round gets at the other workers' gradients. The bits are the same. Who shares memory keeps it in place for the
 * others: see the end of the manual above. */
typedef enum subspace_plan {
    SUBSPACE_PLAN_DEFAULT = 0,  /* SHARED where transport->shared says so, else EXCHANGE */
    SUBSPACE_PLAN_EXCHANGE = 1, /* shards of the gradients and of the aggregate are sent */
    SUBSPACE_PLAN_SHARED = 2    /* they are read where they are, in the other workers' memory: only numbers are sent */
} subspace_plan;

/* Everything subspace_init wants to know. Fill struct_size, gradients and transport; zero is the default of every other
 * field. The descriptor itself, `view` and `group_of_tensor` are copied; the tensor list, transport and pool must
 * outlive the object. Fields marked (F) are part of the fingerprint: the same on all workers. */
typedef struct subspace_desc {
    size_t struct_size;              /* sizeof(subspace_desc) */
    weft_tensors gradients;          /* (F: shapes, types) gradients in, aggregate out, in place */
    const weft_transport *transport; /* the host's network; NULL for subspace_combine only */
    const weft_pool *pool;           /* the host's threads; NULL: serial */
    const weft_view *view;           /* first members; NULL: all ranks, epoch 0 */
    uint32_t channel;                /* the same on all workers; objects sharing a transport differ */
    uint32_t here;      /* gradients that subspace_combine is given at most: N for all in one address space; 0: none */
    weft_isa isa;       /* force an instruction set */
    subspace_rule rule; /* (F) */
    subspace_assignment assignment;  /* (F) */
    subspace_scale scale;            /* (F) */
    subspace_negative negative;      /* (F) */
    subspace_guard guard;            /* (F) */
    subspace_plan plan;              /* (F) */
    int in_place;                    /* (F) 1: without a copy of the gradients; see "In place" above */
    uint32_t groups;                 /* (F) number of groups; 0 with group_of_tensor NULL */
    const uint32_t *group_of_tensor; /* (F) group of each tensor, 0 .. groups-1; NULL: the whole model is one group */
    double momentum;                 /* (F) beta in [0, 1): of the average of the sorted alphas over steps; default 0 */
    double epsilon;                  /* (F) added to each norm; default 1e-8; WEFT_ZERO: none */
    uint64_t timeout_ns; /* no progress for so long in a round: WEFT_ERR_TIMEOUT, polling may go on; 0: never */
    weft_trace_fn trace; /* may be NULL */
    void *trace_ctx;
#ifdef WEFT_CUDA
    const weft_cuda *cuda; /* NULL: gradients are host memory; else device memory, over the wire (PLAN_EXCHANGE) */
#endif
} subspace_desc;

/* Counters since subspace_init (or as loaded). */
typedef struct subspace_stats_t {
    uint64_t rounds;              /* committed here */
    uint64_t rounds_abandoned;    /* by a regroup or the guard; gradients untouched */
    uint64_t members;             /* workers in the view now */
    uint64_t participants;        /* whose gradients entered the last aggregate whole */
    uint64_t nonfinite_gradients; /* workers left out of a round or a group of it, or why it was rejected */
    /* groups and rounds with the mean's weights, since their sum was not above 1e-6 of their size (with
     * SUBSPACE_FORWARD: was zero) */
    uint64_t zero_sums;
    uint64_t scale_fallbacks; /* groups and rounds where the projection was not positive */
    uint64_t restarts;        /* of the average over steps */
    weft_traffic traffic;     /* bytes and messages of this worker */
} subspace_stats_t;

/* One worker's numbers in one group of the last round. The mean needs no norms: they, dot and alpha are 0 for it. */
typedef struct subspace_worker_t {
    double norm;        /* |g_i| */
    double dot;         /* <g_i, sum_j n_j g_j>, n_j: samples as set by subspace_set_batch, else 1 */
    double alpha;       /* dot / (norm + eps) / sum_j n_j */
    double weight;      /* w_i: they sum to 1; SUBSPACE_BASIC: as coefficient */
    double coefficient; /* c_i, before `scale` */
} subspace_worker_t;

/* Bits of subspace_state: which verbs are legal now. close, stats, detail and the like always are. */
enum {
    SUBSPACE_MAY_SUBMIT = 1,     /* subspace_submit, subspace_aggregate */
    SUBSPACE_MAY_POLL = 2,       /* something is in progress (poll and wait are legal at any time) */
    SUBSPACE_MAY_SAVE = 4,       /* between rounds: save, leave, combine, setters */
    SUBSPACE_MAY_LOAD = 8,       /* after init, before anything else */
    SUBSPACE_MAY_REGROUP = 16,   /* subspace_regroup */
    SUBSPACE_GRADIENTS_LOST = 32 /* no verb: in_place, and a round came to nothing. Compute all gradients anew */
};

/* Bytes that subspace_init needs for this descriptor; 0 if the descriptor is refused (report->detail says why).
 * `report`, if not NULL, is overwritten with every buffer by name. */
#define subspace_memory(desc, report) subspace_memory_abi((desc), (report), sizeof(subspace_desc), WEFT_ABI)
SUBSPACE_API size_t subspace_memory_abi(const subspace_desc *desc, weft_memory_report *report, size_t desc_size,
                                        uint32_t abi);

/* Makes *out inside `memory` (the caller's, any alignment, at least subspace_memory bytes; it must stay until
 * subspace_close). Sends nothing. Errors: ARGUMENT, ABI, MEMORY, OVERFLOW, UNSUPPORTED, FLOAT_ENV; *out is then NULL
 * and *detail, if not NULL, says why. */
#define subspace_init(out, desc, memory, bytes)                                                                        \
    subspace_init_abi((out), (desc), (memory), (bytes), NULL, sizeof(subspace_desc), WEFT_ABI)
#define subspace_init_detail(out, desc, memory, bytes, detail)                                                         \
    subspace_init_abi((out), (desc), (memory), (bytes), (detail), sizeof(subspace_desc), WEFT_ABI)
SUBSPACE_API weft_status subspace_init_abi(subspace **out, const subspace_desc *desc, void *memory, size_t bytes,
                                           weft_detail *detail, size_t desc_size, uint32_t abi);

/* The gradients of tensors first .. first + count - 1 are ready: their exchange may begin. Every worker submits the
 * same ranges in the same order (else WEFT_ERR_MISMATCH names both), every tensor once a round. The sums depend on how
 * the tensors are split into submissions, in the last place. Never blocks; WEFT_OK after the last tensor: the gradients
 * hold the aggregate already. */
SUBSPACE_API weft_status subspace_submit(subspace *a, size_t first, size_t count);

/* Submits what is not yet submitted, and waits until the gradients hold the aggregate. Bounded by timeout_ns. Not an
 * aggregate either is WEFT_WANT_GRADIENT: a regroup was still under way, and the round has been abandoned. */
SUBSPACE_API weft_status subspace_aggregate(subspace *a);

/* Goes on with whatever is in progress. Never blocks. WEFT_OK: nothing is (any more). */
SUBSPACE_API weft_status subspace_poll(subspace *a);

/* Polls until something other than WEFT_AGAIN comes, sleeping in the transport's `wait` where there is one. Bounded by
 * timeout_ns. */
SUBSPACE_API weft_status subspace_wait(subspace *a);

/* All gradients in one address space: aggregates the n <= desc.here gradients (each of the shapes and types of
 * desc.gradients) into `out` (which may be one of them), with the same bits as n workers that submit all tensors at
 * once. Between rounds; reads everything twice, 2 n + 1 times the gradients' bytes, and groups that fit the cache once.
 * Counts as a round. samples: one a gradient, or NULL: equal. Errors: ARGUMENT; NONFINITE, after which `out` may hold
 * anything, unless it was a gradient that the guard rejected. */
SUBSPACE_API weft_status subspace_combine(subspace *a, const weft_tensors *gradients, uint32_t n, const double *samples,
                                          const weft_tensors *out);

/* How many samples this worker's gradient stands for, from the next round on; only ratios between workers matter.
 * 1e-100 to 1e100; 1 at first. The gradients are means over these samples. */
SUBSPACE_API weft_status subspace_set_batch(subspace *a, double samples);

/* Says good-bye (out of data, say): the others go on without this worker. Poll until WEFT_OK, then close. Views given
 * from then on leave out whoever has left; one that was on its way to it (regroup is then ORDER) wants another one
 * after it. A loss may show here, too, and wants a regroup first; not that of a worker that has been told good-bye. */
SUBSPACE_API weft_status subspace_leave(subspace *a);

/* The host has learnt that `rank` is gone, or that its link is usable again. Legal at any time; communicates nothing.
 * After the loss of a member verbs that communicate return WEFT_ERR_PEER_LOST until subspace_regroup. */
SUBSPACE_API weft_status subspace_peer_lost(subspace *a, uint32_t rank);
SUBSPACE_API weft_status subspace_peer_up(subspace *a, uint32_t rank);

/* The new view (with a transport), the same on all its members, with a higher epoch than any before. Settles what
 * becomes of a round in progress; poll until WEFT_OK (committed, or there was none) or WEFT_WANT_GRADIENT (abandoned:
 * submit again). */
SUBSPACE_API weft_status subspace_regroup(subspace *a, const weft_view *view);

/* Everything of this object that shapes the trajectory, as one blob (versioned, checksummed, endian-neutral). *bytes is
 * set to the length; with buf NULL only that. Load: into a fresh object of the same descriptor, rank and number of
 * workers; all workers load the blobs of the same moment, which nobody but you can check.
 * Model and optimiser are not in it; what subspace_set_batch said last is. Hostile blobs give an error, the object is
 * then as before. */
SUBSPACE_API weft_status subspace_save(subspace *a, void *buf, size_t capacity, size_t *bytes);
SUBSPACE_API weft_status subspace_load(subspace *a, const void *buf, size_t bytes);
/* The same through callbacks (state.h), for blobs that no memory has room for. `write` NULL: only the length. */
SUBSPACE_API weft_status subspace_save_to(subspace *a, weft_write_fn write, void *ctx, size_t *bytes);
SUBSPACE_API weft_status subspace_load_from(subspace *a, weft_read_fn read, void *ctx, size_t bytes);

/* Reading. The descriptor comes back with defaults filled in; it is for reading, not for another init. */
SUBSPACE_API void subspace_stats(const subspace *a, subspace_stats_t *out);
SUBSPACE_API void subspace_effective(const subspace *a, subspace_desc *out);
SUBSPACE_API const weft_detail *subspace_detail(const subspace *a); /* never NULL, but for a == NULL */
SUBSPACE_API uint32_t subspace_state(const subspace *a);
SUBSPACE_API uint32_t subspace_members(const subspace *a, uint32_t *ranks, uint32_t capacity);
SUBSPACE_API uint32_t subspace_groups(const subspace *a);
/* Of the last round committed, until the next begins; `rank`: a rank, or an index into the gradients of
 * subspace_combine. ARGUMENT if it had no part, or the round came to nothing. */
SUBSPACE_API weft_status subspace_worker(const subspace *a, uint32_t rank, uint32_t group, subspace_worker_t *out);
/* The factor that `scale` made of the last round's group; NaN before. */
SUBSPACE_API double subspace_scale_of(const subspace *a, uint32_t group);
/* The average over steps of the sorted alphas, ascending, as far as `capacity` goes; returns how many there are. */
SUBSPACE_API uint32_t subspace_slots(const subspace *a, uint32_t group, double *slots, uint32_t capacity);

/* Cancels every message under way. Afterwards the memory is the host's again (with shared memory: as soon as no other
 * worker is in a round with this one) and no verb is legal. Needs nobody's cooperation. Use the channel again only
 * after a barrier of your own behind every worker's close, and with a first view of a higher epoch; or take another
 * channel. */
SUBSPACE_API void subspace_close(subspace *a);
/*==== IMPLEMENTATION ====*/

/* States. "In a round" is everything from SUBSPACE_MEET to SUBSPACE_HAVE. */
enum {
    SUBSPACE_IDLE = 0,
    SUBSPACE_SYNC,    /* agreeing on a view */
    SUBSPACE_MEET,    /* who takes part, with how many samples */
    SUBSPACE_SCATTER, /* shards of the gradients, chunk by chunk, as they are submitted */
    SUBSPACE_NUMBERS, /* everyone's part of the dots and squared norms */
    SUBSPACE_GATHER,  /* shards of the aggregate */
    SUBSPACE_HAVE,    /* everyone tells that it holds the aggregate */
    SUBSPACE_COPIED,  /* with shared memory: the round is committed; everyone tells that it has taken its copy */
    SUBSPACE_LEAVING,
    SUBSPACE_LEFT,
    SUBSPACE_CLOSED
};

enum { SUBSPACE_THEN_IDLE = 0, SUBSPACE_THEN_ROUND, SUBSPACE_THEN_LEAVE };
enum { SUBSPACE_SYNC_FRESH = 1 };
#define SUBSPACE_BLOCK ((size_t)1024) /* columns whose sums over the workers stay in the first-level cache */
#define SUBSPACE_PIECE_BLOCKS ((size_t)16)
#define SUBSPACE_WAVE_BLOCKS ((size_t)256)
#define SUBSPACE_CHUNK ((size_t)4 << 20) /* bytes of the gradients that are exchanged at a time */
#define SUBSPACE_MAGIC 0x73756273u       /* "subs" */
enum { SUBSPACE_STEP_COPIED = WEFT_STEP_HAVE + 1 };

/* A part of what was submitted at once. Shard i of it is [lo + i unit, lo + (i + 1) unit), cut off at hi. */
typedef struct subspace_chunk {
    size_t lo, hi;       /* positions in the map of the gradients */
    size_t slot;         /* where it has its room in the mirror */
    size_t tensor;       /* in place: the one that it is of */
    size_t unit;         /* bytes of a shard */
    uint64_t submission; /* for comparison: the range that was submitted */
} subspace_chunk;

struct subspace {
    uint32_t magic;
    subspace_desc desc;   /* effective */
    weft_transport alone; /* without a transport: a team of one */
    weft_group group;
    weft_sync sync;
    weft_map map;
    const weft_wide_kernels *wide;
    const weft_kernels *kernels, *mixing; /* mixing: for the pass that writes the aggregate */
#ifdef WEFT_CUDA
    weft_gpu gpu;
    weft_slot *gpu_numbers, *gpu_row; /* of a run, one row a participant: on the device, and here */
#endif
    int joined, cut; /* has been in an agreed view; a new view has cut a round short */
    int wanting;     /* a round was abandoned: its gradients must be submitted again */
    int shared;      /* over the transport by way of shared memory */
    int moving;      /* in place by way of messages: others' pieces stand in the gradients */
    int lost;        /* the gradients are in pieces */
    int state, then;
    uint64_t round, settled, have; /* as in the sync: last one over, its id, id of the one whose result is here */
    uint64_t averaged;             /* id of the last one committed: the average over steps is of that moment */
    uint32_t rows;                 /* workers that there is room for */
    size_t groups;
    uint32_t *group_of; /* NULL: one group */
    /* the round under way */
    uint32_t *who, count, self; /* participants, ascending ranks; this worker's place among them */
    uint32_t *place;            /* of those who count in a group, among the participants */
    unsigned char *excluded;    /* [group * rows + rank]: its gradient is not finite */
    unsigned char *submitted;   /* a tensor */
    size_t waiting;             /* tensors that are not submitted yet */
    subspace_chunk *chunk;
    uint32_t chunks, begun, summed, mixed, gathered; /* so many of them */
    uint32_t step;                                   /* exchanges of this round so far */
    uint32_t attempts;                               /* of taking the numbers */
    int in_flight;
    unsigned char *mirror;
    size_t bounce;           /* moving: bytes of the room in which a chunk arrives; behind it: what overflows */
    subspace **theirs;       /* shared: a rank: its object */
    const weft_tensors *set; /* of subspace_combine: everyone's gradients; NULL: over the transport */
    const void **x;          /* a participant's piece */
    double *factor;          /* a participant: what its piece is multiplied by */
    double *samples, own_samples;
    double *numbers; /* a row a rank: dots then squares, of all participants, group by group */
    double *total;   /* one such row: their sums */
    double *alpha, *weight, *coefficient, *norm;   /* [group * rows + rank] */
    double *scale;                                 /* a group */
    unsigned char *alone_in;                       /* a group: one gradient is left, and is to come out as it went in */
    double *slots, *new_slots;                     /* [group * rows + k]: averages of the sorted alphas */
    uint32_t *slot_count, *order;                  /* a group: how many slots there are; scratch */
    double *room;                                  /* what the blocks of a wave yield */
    uint64_t nonfinite;                            /* elements of the aggregate, here */
    uint64_t zero_sums, scale_fallbacks, restarts; /* of this round, counted on commit */
    subspace_stats_t stats;
};

/* ---- Descriptor ---- */

WEFT_FN weft_status subspace_enum(uint64_t v, uint64_t most, const char *field, weft_detail *d) {
    return v <= most ? WEFT_OK : weft_refuse(d, WEFT_ERR_ARGUMENT, field, most, v);
}

/* Checks everything, and fills in the defaults. */
WEFT_FN weft_status subspace_check(const subspace_desc *in, size_t desc_size, uint32_t abi, subspace_desc *out,
                                   weft_detail *d) {
    weft_status s;
    size_t i;
    if (!in) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc"), 1, 0);
    if (abi != WEFT_ABI) return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("header version"), WEFT_ABI, abi);
    if (desc_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("sizeof(subspace_desc)"), sizeof *in, desc_size);
    if (in->struct_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("desc.struct_size"), sizeof *in, in->struct_size);
    *out = *in;
    if (!in->transport && (!in->here || in->view))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.transport (or desc.here, no view)"), 1, 0);
    if (in->transport && (s = weft_transport_check(in->transport, d)) != WEFT_OK) return s;
    if ((s = weft_tensors_check(&in->gradients, 0, d)) != WEFT_OK) return s;
    if ((s = WEFT_GPU_CHECK(in, d)) != WEFT_OK) return s;
    if (in->gradients.count >= UINT32_MAX)
        return weft_refuse(d, WEFT_ERR_OVERFLOW, WEFT_TEXT("gradients.count"), UINT32_MAX - 1, in->gradients.count);
    if (in->view && (s = weft_view_check(in->view, in->transport, d)) != WEFT_OK) return s;
    if (in->channel >= WEFT_CHANNELS)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.channel"), WEFT_CHANNELS - 1, in->channel);
    if (!weft_kernels_select(in->isa, 0))
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.isa"), 0, (uint64_t)in->isa);
    if ((s = subspace_enum((uint64_t)in->rule, SUBSPACE_MEAN, WEFT_TEXT("desc.rule"), d)) != WEFT_OK ||
        (s = subspace_enum((uint64_t)in->assignment, SUBSPACE_FORWARD, WEFT_TEXT("desc.assignment"), d)) != WEFT_OK ||
        (s = subspace_enum((uint64_t)in->scale, SUBSPACE_SCALE_OFF, WEFT_TEXT("desc.scale"), d)) != WEFT_OK ||
        (s = subspace_enum((uint64_t)in->negative, SUBSPACE_NEGATIVE_CLAMP, WEFT_TEXT("desc.negative"), d)) !=
            WEFT_OK ||
        (s = subspace_enum((uint64_t)in->guard, SUBSPACE_GUARD_REJECT, WEFT_TEXT("desc.guard"), d)) != WEFT_OK ||
        (s = subspace_enum((uint64_t)in->plan, SUBSPACE_PLAN_SHARED, WEFT_TEXT("desc.plan"), d)) != WEFT_OK ||
        (s = subspace_enum((uint64_t)(int64_t)in->in_place, 1, WEFT_TEXT("desc.in_place"), d)) != WEFT_OK)
        return s;
    if (in->plan == SUBSPACE_PLAN_DEFAULT)
        out->plan = !in->transport || in->transport->shared ? SUBSPACE_PLAN_SHARED : SUBSPACE_PLAN_EXCHANGE;
#ifdef WEFT_CUDA
    if (in->cuda && in->transport) {
        if (in->plan == SUBSPACE_PLAN_SHARED)
            return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.plan (on a GPU)"), SUBSPACE_PLAN_EXCHANGE,
                               SUBSPACE_PLAN_SHARED);
        out->plan = SUBSPACE_PLAN_EXCHANGE;
    }
#endif
    if (in->plan == SUBSPACE_PLAN_SHARED && in->transport && !in->transport->shared)
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("transport.shared (for desc.plan)"), 1, 0);
    if (in->in_place && in->guard == SUBSPACE_GUARD_REJECT && out->plan == SUBSPACE_PLAN_EXCHANGE)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.guard (with desc.in_place)"), SUBSPACE_GUARD_EXCLUDE,
                           (uint64_t)in->guard);
    if (!(in->momentum >= 0.0 && in->momentum < 1.0))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.momentum"), weft_double_bits(1.0),
                           weft_double_bits(in->momentum));
    out->epsilon = in->epsilon == 0.0 ? 1e-8 : in->epsilon == (double)WEFT_ZERO ? 0.0 : in->epsilon;
    if (!(out->epsilon >= 0.0 && weft_is_finite(out->epsilon)))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.epsilon"), 0, weft_double_bits(in->epsilon));
    out->isa = weft_isa_resolve(in->isa);
    if (in->rule == SUBSPACE_MEAN && in->scale != SUBSPACE_SCALE_DEFAULT && in->scale != SUBSPACE_SCALE_OFF)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.scale (of the mean)"), SUBSPACE_SCALE_OFF,
                           (uint64_t)in->scale);
    if (in->scale == SUBSPACE_SCALE_DEFAULT)
        out->scale = in->assignment == SUBSPACE_FORWARD || in->rule == SUBSPACE_MEAN ? SUBSPACE_SCALE_OFF
                                                                                     : SUBSPACE_SCALE_PROJECTION;
    if (!in->group_of_tensor) {
        if (in->groups)
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.groups (without group_of_tensor)"), 0, in->groups);
        out->groups = 1;
    } else {
        for (i = 0; i < in->gradients.count; i++)
            if (in->group_of_tensor[i] >= in->groups)
                return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.group_of_tensor"), in->groups,
                                   in->group_of_tensor[i]);
    }
    if (in->timeout_ns && (!in->transport || !in->transport->now))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.now (for a deadline)"), 1, 0);
    return WEFT_OK;
}

/* ---- Memory ---- */

WEFT_FN subspace *subspace_lay_out(weft_layout *l, const subspace_desc *d, subspace *tmp) {
    const uint32_t size = d->transport ? d->transport->size : 1;
    const uint32_t rows = d->here > size ? d->here : size;
    subspace *made = (subspace *)weft_layout_take(l, WEFT_TEXT("subspace"), 1, sizeof(subspace));
    subspace *a = made ? made : tmp;
    size_t bytes, chunks, odd = 0, mirror = 0, row = 0, all = 0, each = 0;
    int ok = 1;
    memset(a, 0, sizeof *a);
    a->rows = rows;
    a->shared = d->transport && d->plan == SUBSPACE_PLAN_SHARED;
    a->moving = d->in_place && d->plan == SUBSPACE_PLAN_EXCHANGE;
    a->groups = d->groups;
    weft_group_layout(l, size, &a->group.peer, &a->group.member);
    weft_sync_layout(l, size, &a->sync.all);
    bytes = weft_map_measure(&d->gradients, &ok);
    /* each submission may end in a part of a chunk, and each chunk in shards that are rounded up */
    chunks = bytes / SUBSPACE_CHUNK + 1;
    if (!weft_add_size(chunks, d->gradients.count, &chunks) || chunks >= UINT32_MAX / 4 ||
        !weft_mul_size(rows, WEFT_ALIGNMENT, &odd) || !weft_mul_size(chunks, odd + WEFT_ALIGNMENT, &mirror) ||
        !weft_add_size(bytes < SUBSPACE_CHUNK ? bytes : SUBSPACE_CHUNK, odd, &a->bounce) ||
        !weft_mul_size(2 * (size_t)rows, d->groups, &row) || !weft_mul_size(row, size, &all) ||
        !weft_mul_size(rows, d->groups, &each))
        l->overflow = 1;
    if (!d->transport)
        mirror = 0;
    else if (a->shared)
        mirror = d->in_place ? 0 : bytes;
    else if (!weft_add_size(mirror, a->moving ? a->bounce : bytes, &mirror))
        l->overflow = 1;
    a->map.position =
        (size_t *)weft_layout_take(l, WEFT_TEXT("positions of the tensors"), d->gradients.count + 1, sizeof(size_t));
    a->chunk = (subspace_chunk *)weft_layout_take(l, WEFT_TEXT("chunks"), chunks, sizeof(subspace_chunk));
    a->mirror = (unsigned char *)weft_layout_data(l, WEFT_TEXT("pieces, then the aggregate"), mirror, 1);
    a->theirs =
        (subspace **)weft_layout_take(l, WEFT_TEXT("where the others are"), a->shared ? size : 0, sizeof(subspace *));
    a->group_of = (uint32_t *)weft_layout_take(l, WEFT_TEXT("group of each tensor"),
                                               d->group_of_tensor ? d->gradients.count : 0, sizeof(uint32_t));
    a->submitted = (unsigned char *)weft_layout_take(l, WEFT_TEXT("marks of each tensor"), d->gradients.count, 1);
    a->excluded = (unsigned char *)weft_layout_take(l, WEFT_TEXT("marks of each worker and group"), each, 1);
    a->who = (uint32_t *)weft_layout_take(l, WEFT_TEXT("participants"), rows, 3 * sizeof(uint32_t));
    a->x = (const void **)weft_layout_take(l, WEFT_TEXT("sources of a sum"), rows, sizeof(void *));
    a->factor = (double *)weft_layout_take(l, WEFT_TEXT("factors and samples"), rows, 2 * sizeof(double));
    a->numbers = (double *)weft_layout_take(l, WEFT_TEXT("dots and squares from each"), all, sizeof(double));
    a->total = (double *)weft_layout_take(l, WEFT_TEXT("dots and squared norms"), row, sizeof(double));
    a->alpha = (double *)weft_layout_take(l, WEFT_TEXT("alphas, weights, coefficients, norms, slots"), each,
                                          6 * sizeof(double));
    a->scale = (double *)weft_layout_take(l, WEFT_TEXT("scale of each group"), d->groups, sizeof(double));
    a->alone_in = (unsigned char *)weft_layout_take(l, WEFT_TEXT("marks of each group"), d->groups, 1);
    a->slot_count = (uint32_t *)weft_layout_take(l, WEFT_TEXT("number of slots"), d->groups, sizeof(uint32_t));
    a->room = (double *)weft_layout_take(l, WEFT_TEXT("numbers of blocks"), d->pool ? SUBSPACE_WAVE_BLOCKS * 2 : 2,
                                         rows * sizeof(double));
#ifdef WEFT_CUDA
    weft_gpu_layout(l, &a->gpu, &d->gradients, &d->gradients, rows, WEFT_BLOCK / SUBSPACE_BLOCK);
    a->gpu_numbers = (weft_slot *)weft_layout_data(l, WEFT_TEXT("numbers of a run"), d->cuda ? rows : 0,
                                                   WEFT_SLOTS * sizeof(weft_slot));
    a->gpu_row = (weft_slot *)weft_layout_take(l, WEFT_TEXT("numbers of a run, here"), d->cuda ? rows : 0,
                                               WEFT_SLOTS * sizeof(weft_slot));
#endif
    if (!ok) l->overflow = 1;
    return made;
}

SUBSPACE_API size_t subspace_memory_abi(const subspace_desc *desc, weft_memory_report *report, size_t desc_size,
                                        uint32_t abi) {
    weft_layout l;
    weft_detail detail = weft_detail_none();
    subspace_desc d;
    subspace tmp;
    size_t total = 0;
    memset(&l, 0, sizeof l);
    if (report) memset(report, 0, sizeof *report);
    l.report = report;
    if (subspace_check(desc, desc_size, abi, &d, &detail) == WEFT_OK) {
        WEFT_GPU_LEND(&l, &d);
        subspace_lay_out(&l, &d, &tmp);
        total = weft_layout_total(&l);
        if (!total) weft_refuse(&detail, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    }
    if (report) {
        report->detail = detail;
        report->total_bytes = total;
        report->requests_per_peer = WEFT_REQUESTS_PER_PEER;
        WEFT_GPU_REPORT(report, &l);
    }
    return total;
}

WEFT_FN const char *const *subspace_field_names(void) {
    static const char *const names[] = {"algorithm",
                                        "version",
                                        "gradients.count",
                                        "gradients (elements)",
                                        "gradients (shapes and types)",
                                        "rule",
                                        "assignment",
                                        "scale",
                                        "negative",
                                        "guard",
                                        "groups",
                                        "group_of_tensor",
                                        "momentum",
                                        "epsilon",
                                        "plan",
                                        "in_place",
                                        NULL};
    return names;
}

WEFT_FN void subspace_fingerprint(subspace *a) {
    const subspace_desc *d = &a->desc;
    uint64_t h = 0;
    size_t i;
    uint64_t *f = a->sync.mine;
    for (i = 0; a->group_of && i < d->gradients.count; i++) h = (h ^ a->group_of[i]) * 0x9E3779B97F4A7C15u + (h >> 31);
    a->sync.name = subspace_field_names();
    f[0] = SUBSPACE_MAGIC;
    f[1] = WEFT_VERSION;
    f[2] = d->gradients.count;
    f[3] = weft_tensors_elements(&d->gradients);
    f[4] = weft_shape_hash(&d->gradients);
    f[5] = (uint64_t)d->rule;
    f[6] = (uint64_t)d->assignment;
    f[7] = (uint64_t)d->scale;
    f[8] = (uint64_t)d->negative;
    f[9] = (uint64_t)d->guard;
    f[10] = d->groups;
    f[11] = h;
    f[12] = weft_double_bits(d->momentum);
    f[13] = weft_double_bits(d->epsilon);
    f[14] = (uint64_t)d->plan;
    f[15] = (uint64_t)d->in_place;
}

WEFT_FN uint64_t subspace_blob_fingerprint(const subspace *a) {
    uint64_t h = 0x9E3779B97F4A7C15u + a->group.net->rank;
    int i;
    for (i = 0; i < WEFT_SYNC_COMMITTED; i++) {
        h = (h ^ a->sync.mine[i]) * 0xBF58476D1CE4E5B9u;
        h ^= h >> 29;
    }
    return (h ^ a->group.net->size ^ (uint64_t)a->rows << 32) * 0x94D049BB133111EBu;
}

/* Nothing of a round is left. */
WEFT_FN void subspace_forget(subspace *a) {
    a->chunks = a->begun = a->summed = a->mixed = a->gathered = 0;
    a->step = a->attempts = 0;
    a->in_flight = 0;
    a->waiting = a->desc.gradients.count;
    a->nonfinite = 0;
    a->have = 0;
    if (a->waiting) memset(a->submitted, 0, a->waiting);
    memset(a->excluded, 0, a->rows * a->groups);
}

/* Everything that training changes, as at the beginning. */
WEFT_FN void subspace_begin_afresh(subspace *a) {
    size_t i;
    a->joined = a->cut = a->wanting = a->lost = 0;
    a->state = SUBSPACE_IDLE;
    a->then = SUBSPACE_THEN_IDLE;
    a->round = a->settled = a->averaged = 0;
    a->own_samples = 1.0;
    a->count = 0;
    memset(&a->stats, 0, sizeof a->stats);
    for (i = 0; i < a->groups; i++) {
        a->slot_count[i] = 0;
        a->scale[i] = (double)NAN;
    }
    for (i = 0; i < a->groups * a->rows; i++) a->norm[i] = (double)NAN;
    subspace_forget(a);
}

SUBSPACE_API weft_status subspace_init_abi(subspace **out, const subspace_desc *desc, void *memory, size_t bytes,
                                           weft_detail *detail, size_t desc_size, uint32_t abi) {
    weft_detail why = weft_detail_none();
    weft_detail *say = detail ? detail : &why;
    weft_layout l;
    subspace_desc d;
    subspace *a;
    size_t need, each, i;
    weft_status s;
    *say = why;
    if (!out) return weft_refuse(say, WEFT_ERR_ARGUMENT, WEFT_TEXT("out"), 1, 0);
    *out = NULL;
    if ((s = subspace_check(desc, desc_size, abi, &d, say)) != WEFT_OK) return s;
    need = subspace_memory_abi(desc, NULL, desc_size, abi);
    if (!need) return weft_refuse(say, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    if (!memory || bytes < need) return weft_refuse(say, WEFT_ERR_MEMORY, WEFT_TEXT("bytes"), need, memory ? bytes : 0);
    if ((s = weft_float_probe(say)) != WEFT_OK) return s;
    memset(&l, 0, sizeof l);
    l.base = weft_align_memory(memory);
    WEFT_GPU_LEND(&l, &d);
    a = subspace_lay_out(&l, &d, NULL);
    a->magic = SUBSPACE_MAGIC;
    a->desc = d;
    a->desc.view = NULL;
    each = a->groups * a->rows;
    a->weight = a->alpha + each;
    a->coefficient = a->weight + each;
    a->norm = a->coefficient + each;
    a->slots = a->norm + each;
    a->new_slots = a->slots + each;
    a->samples = a->factor + a->rows;
    a->order = a->who + a->rows;
    a->place = a->order + a->rows;
    if (d.group_of_tensor)
        for (i = 0; i < d.gradients.count; i++) a->group_of[i] = d.group_of_tensor[i];
    else
        a->group_of = NULL;
    a->desc.group_of_tensor = a->group_of;
    a->alone = weft_transport_make(NULL, 0, 1, NULL, NULL, NULL, NULL, NULL);
    weft_group_start(&a->group, d.transport ? d.transport : &a->alone, d.channel, desc->view, d.timeout_ns, d.trace,
                     d.trace_ctx);
    a->group.owner = a;
    weft_map_init(&a->map, &a->desc.gradients, a->map.position);
    /* what is received passes the cache on its way, and what is summed is in it */
    a->kernels = weft_kernels_select(d.isa, 0);
    s = WEFT_GPU_INIT(&a->gpu, &d, &l, &a->kernels, say);
    if (s != WEFT_OK) return s;
    WEFT_GPU_USE(a->group, &d, &a->gpu);
    WEFT_GPU_USE(a->map, &d, &a->gpu);
    a->mixing = a->kernels;
    a->wide = weft_wide_kernels_select(d.isa, 0);
    subspace_fingerprint(a);
    subspace_begin_afresh(a);
    *out = a;
    return WEFT_OK;
}

/* ---- Sums over the participants: parts of <g_i, s> and <g_i, g_i>, and of the aggregate ---- */

/* Participant i's columns from element `at` of the run, as elements of f32 or f64 (16-bit types: through `room`). */
WEFT_FN const void *subspace_columns(const subspace *a, weft_dtype t, uint32_t i, size_t at, size_t n, float *room) {
    const unsigned char *p = (const unsigned char *)a->x[i] + at * weft_dtype_bytes(t);
    if (weft_dtype_bytes(t) != 2) return p;
    (t == WEFT_BF16 ? a->kernels->bf16_to_f32 : a->kernels->f16_to_f32)(n, (const uint16_t *)(const void *)p, room);
    return room;
}

/* The sum over i of factor_i g_i over n columns, in f64: into s, or if `out` is not NULL, rounded once, there. A
 * participant with factor 0 is not looked at. n is up to SUBSPACE_BLOCK, but for one pass over f32 or f64 to `out`. */
WEFT_FN void subspace_block_sum(const subspace *a, weft_dtype t, size_t at, size_t n, double *s, void *out) {
    const weft_wide_set *k = t == WEFT_F64 ? &a->wide->f64 : &a->wide->f32;
    float room[4][SUBSPACE_BLOCK];
    const void *x[4];
    double w[4];
    uint32_t i, have = 0, left = 0;
    int started = 0;
    for (i = 0; i < a->count; i++) left += a->factor[i] != 0.0;
    if (!left) {
        if (out)
            memset(out, 0, n * (t == WEFT_F64 ? 8 : 4));
        else
            memset(s, 0, n * sizeof *s);
    }
    for (i = 0; i < a->count; i++) {
        if (a->factor[i] == 0.0) continue;
        w[have] = a->factor[i];
        x[have] = subspace_columns(a, t, i, at, n, room[have]);
        have++;
        left--;
        if (have < 4 && left) continue;
        k->sum_wide(n, have, w, x, s, started, left ? NULL : out, a->mixing->stream);
        started = 1;
        have = 0;
    }
}

/* <g_i, s> and <g_i, g_i> of few participants by way of their products with each other: up to four of them take less
 * than forming s. */
WEFT_FN void subspace_block_products(const subspace *a, weft_dtype t, size_t at, size_t n, double *out) {
    const weft_wide_set *k = t == WEFT_F64 ? &a->wide->f64 : &a->wide->f32;
    double product[4][4], lanes[10 * WEFT_LANES_OF_A_BLOCK];
    float room[4][SUBSPACE_BLOCK];
    const void *x[4];
    uint32_t place[4], have = 0, i, j, p;
    for (i = 0; i < a->count; i++) {
        if (a->factor[i] == 0.0) continue;
        place[have] = i;
        x[have] = subspace_columns(a, t, i, at, n, room[have]);
        have++;
    }
    if (!have) return;
    for (i = have; i < 4; i++) x[i] = x[0]; /* looked at, for nothing */
    memset(lanes, 0, sizeof lanes);
    if (have <= 2) {
        k->dots_block(n, x[0], x[1], lanes);
        product[0][1] = product[1][0] = weft_lanes_sum(lanes);
        product[0][0] = weft_lanes_sum(lanes + WEFT_LANES_OF_A_BLOCK);
        product[1][1] = weft_lanes_sum(lanes + 2 * WEFT_LANES_OF_A_BLOCK);
    } else {
        k->gram_block(n, x, lanes);
        for (i = p = 0; i < 4; i++)
            for (j = i; j < 4; j++, p++)
                product[i][j] = product[j][i] = weft_lanes_sum(lanes + p * WEFT_LANES_OF_A_BLOCK);
    }
    for (i = 0; i < have; i++) {
        out[a->count + place[i]] = product[i][i];
        for (j = 0; j < have; j++) out[place[i]] += a->factor[place[j]] * product[i][j];
    }
}

/* The sums of up to SUBSPACE_BLOCK columns: out[i] = <g_i, s>, out[count + i] = <g_i, g_i>, s = sum of n_j g_j. Lanes
 * and their order are those of the contract; s stays in f64. a->factor: samples, 0 for those who are left out. */
WEFT_FN void subspace_block_numbers(const subspace *a, weft_dtype t, size_t at, size_t n, double *out) {
    const weft_wide_set *k = t == WEFT_F64 ? &a->wide->f64 : &a->wide->f32;
    double s[SUBSPACE_BLOCK], lanes[2 * WEFT_LANES_OF_A_BLOCK];
    float room[SUBSPACE_BLOCK];
    uint32_t i;
    for (i = 0; i < 2 * a->count; i++) out[i] = 0.0;
    if (a->count <= 4) {
        subspace_block_products(a, t, at, n, out);
        return;
    }
    subspace_block_sum(a, t, at, n, s, NULL);
    for (i = 0; i < a->count; i++) {
        if (a->factor[i] == 0.0) continue;
        memset(lanes, 0, sizeof lanes);
        k->dots_wide(n, subspace_columns(a, t, i, at, n, room), s, lanes);
        out[i] = weft_lanes_sum(lanes);
        out[a->count + i] = weft_lanes_sum(lanes + WEFT_LANES_OF_A_BLOCK);
    }
}

/* The aggregate's columns. 16-bit types are rounded to f32 first, as everywhere. */
WEFT_FN void subspace_block_mix(const subspace *a, weft_dtype t, size_t at, size_t n, unsigned char *out) {
    double s[SUBSPACE_BLOCK];
    float room[SUBSPACE_BLOCK];
    unsigned char *to = out + at * weft_dtype_bytes(t);
    if (weft_dtype_bytes(t) != 2) {
        subspace_block_sum(a, t, at, n, s, to);
        return;
    }
    subspace_block_sum(a, t, at, n, s, room);
    (t == WEFT_BF16 ? a->kernels->f32_to_bf16 : a->kernels->f32_to_f16)(n, room, (uint16_t *)(void *)to);
}

typedef struct subspace_job {
    const subspace *a;
    weft_dtype dtype;
    size_t n, first, end; /* elements of the run; blocks of the wave */
    unsigned char *out;   /* NULL: numbers */
    double *room;         /* numbers: of block `first` */
} subspace_job;

WEFT_FN void subspace_job_piece(void *arg, size_t index) {
    const subspace_job *j = (const subspace_job *)arg;
    size_t b = j->first + index * SUBSPACE_PIECE_BLOCKS, end = b + SUBSPACE_PIECE_BLOCKS;
    if (end > j->end) end = j->end;
    for (; b < end; b++) {
        const size_t at = b * SUBSPACE_BLOCK, n = j->n - at < SUBSPACE_BLOCK ? j->n - at : SUBSPACE_BLOCK;
        if (j->out)
            subspace_block_mix(j->a, j->dtype, at, n, j->out);
        else
            subspace_block_numbers(j->a, j->dtype, at, n, j->room + (b - j->first) * 2 * j->a->count);
    }
    if (j->out && j->a->mixing->stream) j->a->mixing->fence();
}

#ifdef WEFT_CUDA
/* Its numbers, on the device. */
WEFT_FN void subspace_run_on_gpu(subspace *a, weft_dtype t, size_t n, double *numbers) {
    const size_t bytes = a->count * WEFT_SLOTS * sizeof(weft_slot);
    uint32_t i;
    memset(a->gpu_row, 0, bytes);
    for (i = 0; i < a->count; i++) {
        a->gpu_row[i * WEFT_SLOTS].sum = numbers[i];
        a->gpu_row[i * WEFT_SLOTS + 1].sum = numbers[a->count + i];
    }
    weft_data_in(&a->gpu, a->gpu_numbers, a->gpu_row, bytes);
    weft_gpu_note(&a->gpu, weft_device_numbers(&a->gpu.device, t, n, a->count, a->factor, a->x, a->gpu_numbers));
    weft_data_out(&a->gpu, a->gpu_row, a->gpu_numbers, bytes);
    for (i = 0; a->gpu.failed == WEFT_OK && i < a->count; i++) {
        numbers[i] = a->gpu_row[i * WEFT_SLOTS].sum;
        numbers[a->count + i] = a->gpu_row[i * WEFT_SLOTS + 1].sum;
    }
}

/* The aggregate of a run, on the device. */
WEFT_FN uint64_t subspace_mix_on_gpu(subspace *a, weft_dtype t, size_t n, unsigned char *out) {
    weft_slot total;
    weft_gpu_fetch(&a->gpu, weft_device_sum_wide(&a->gpu.device, t, n, a->count, a->factor, a->x, out, a->gpu.total),
                   &total, 1);
    return total.count;
}
#endif

/* A run: n elements of one tensor, x[i] where participant i has them. With out NULL adds its numbers to `numbers`
 * (count dots, then count squares), block by block in order; else writes the aggregate there. */
WEFT_FN void subspace_run(subspace *a, weft_dtype t, size_t n, unsigned char *out, double *numbers) {
    const size_t blocks = n / SUBSPACE_BLOCK + (n % SUBSPACE_BLOCK != 0);
    const int parallel = a->desc.pool && a->desc.pool->parallel_for && blocks > SUBSPACE_PIECE_BLOCKS;
    const size_t wave = parallel ? SUBSPACE_WAVE_BLOCKS : 1;
    subspace_job j;
    size_t b;
    uint32_t i;
#ifdef WEFT_CUDA
    if (a->map.gpu) {
        subspace_run_on_gpu(a, t, n, numbers);
        return;
    }
#endif
    j.a = a;
    j.dtype = t;
    j.n = n;
    j.out = out;
    j.room = a->room;
    for (j.first = 0; j.first < blocks; j.first = j.end) {
        j.end = blocks - j.first < wave || (out && parallel) ? blocks : j.first + wave;
        weft_parallel_for(parallel ? a->desc.pool : NULL,
                          (j.end - j.first + SUBSPACE_PIECE_BLOCKS - 1) / SUBSPACE_PIECE_BLOCKS, subspace_job_piece,
                          &j);
        for (b = 0; !out && b < j.end - j.first; b++)
            for (i = 0; i < 2 * a->count; i++) numbers[i] += a->room[b * 2 * a->count + i];
    }
}

/* The aggregate of a run; returns how many of its elements are not finite. They are counted only where they could be:
 * no element of a gradient exceeds its norm. */
WEFT_FN uint64_t subspace_mix_run(subspace *a, weft_dtype t, size_t n, size_t group, unsigned char *out) {
    const double most = t == WEFT_F64 ? 1e308 : t == WEFT_F16 ? 65000.0 : 3e38;
    double bound = 0.0;
    uint32_t i, sources = 0;
#ifdef WEFT_CUDA
    if (a->map.gpu) return subspace_mix_on_gpu(a, t, n, out);
#endif
    for (i = 0; i < a->count; i++) {
        const double f = a->factor[i];
        if (f == 0.0) continue;
        sources++;
        bound += (f < 0.0 ? -f : f) * a->norm[group * a->rows + a->who[i]];
    }
    if (sources <= 4 && weft_dtype_bytes(t) != 2 && !(a->desc.pool && a->desc.pool->parallel_for)) {
        subspace_block_sum(a, t, 0, n, NULL, out); /* all in one pass */
        if (a->mixing->stream) a->mixing->fence();
    } else {
        subspace_run(a, t, n, out, NULL);
    }
    return bound < most ? 0 : weft_run_count_nonfinite(a->kernels, a->desc.pool, t, n, out);
}

/* Where participant i's shard `shard` of a chunk begins. */
WEFT_FN size_t subspace_shard(const subspace_chunk *c, uint32_t shard) {
    const size_t at = c->lo + shard * c->unit;
    return at < c->hi ? at : c->hi;
}

/* Moving: where byte `at` of the others' pieces of a chunk stands, piece i from i * unit on: in place of this worker's
 * own shards, and what is more than these (shards are rounded up) behind the room of the arriving chunk. */
WEFT_FN size_t subspace_fits(const subspace_chunk *c) {
    return (c->hi - c->lo) / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
}

WEFT_FN unsigned char *subspace_home(const subspace *a, const subspace_chunk *c, size_t at) {
    const size_t fits = subspace_fits(c);
    if (at < fits) return (unsigned char *)a->map.tensor[c->tensor].data + (c->lo - a->map.position[c->tensor]) + at;
    return a->mirror + a->bounce + (size_t)(c - a->chunk) * (a->rows + (size_t)1) * WEFT_ALIGNMENT + (at - fits);
}

/* How far from `past` on everybody's piece is in one stretch. */
WEFT_FN size_t subspace_stretch(const subspace *a, const subspace_chunk *c, size_t past) {
    const size_t fits = subspace_fits(c);
    size_t least = SIZE_MAX;
    uint32_t i;
    for (i = 0; a->desc.in_place && i < a->count; i++) /* whichever the plan: the same bits */
        if (i * c->unit + past < fits && fits - i * c->unit - past < least) least = fits - i * c->unit - past;
    return least;
}

/* The run at position `at` of shard `shard`: where everybody's elements of it stand. `own`: in this worker's
 * tensors. */
WEFT_FN void subspace_sources(subspace *a, const subspace_chunk *c, uint32_t shard, size_t at, size_t which,
                              unsigned char *own) {
    const size_t past = at - subspace_shard(c, shard);
    uint32_t i;
    for (i = 0; i < a->count; i++) {
        const weft_tensor *t = a->set      ? a->set[i].tensor
                               : a->shared ? a->theirs[a->who[i]]->desc.gradients.tensor
                                           : NULL;
        if (t)
            a->x[i] = (const unsigned char *)t[which].data + (at - a->map.position[which]);
        else if (i == a->self)
            a->x[i] = own;
        else
            a->x[i] = a->moving ? subspace_home(a, c, i * c->unit + past) : a->mirror + c->slot + i * c->unit + past;
    }
}

enum { SUBSPACE_ALL_GROUPS = -1 };

/* What a worker's gradient is multiplied by in the end. */
WEFT_FN double subspace_factor(const subspace *a, size_t group, uint32_t rank) {
    const size_t at = group * a->rows + rank;
    if (a->excluded[at]) return 0.0;
    /* a gradient that is alone is given back as it is */
    if (a->coefficient[at] * a->norm[at] > 0.0 && a->alone_in[group]) return 1.0;
    return a->coefficient[at] * a->scale[group];
}

/* The numbers of one shard of a chunk: a part of everybody's dots and squares. `only`: a group, or all. For the plain
 * mean, of which somebody is not finite, they tell no more than who. */
WEFT_FN void subspace_sum_chunk(subspace *a, const subspace_chunk *c, uint32_t shard, double *row, long only) {
    weft_range at = weft_range_map(&a->map, a->desc.gradients.tensor, NULL, 0, subspace_shard(c, shard),
                                   subspace_shard(c, shard + 1));
    const size_t lo = subspace_shard(c, shard);
    unsigned char *own;
    size_t each, which, bytes;
    while ((bytes = weft_range_next(&at, subspace_stretch(a, c, at.at - lo), &own, &each, &which)) != 0) {
        const size_t group = a->group_of ? a->group_of[which] : 0;
        double *numbers = row + group * 2 * a->count;
        const weft_dtype t = a->map.tensor[which].dtype;
        uint32_t i;
        if (only != SUBSPACE_ALL_GROUPS && (size_t)only != group) continue;
        subspace_sources(a, c, shard, at.at - bytes, which, own);
        for (i = 0; i < a->count; i++)
            a->factor[i] = a->excluded[group * a->rows + a->who[i]] ? 0.0 : a->samples[a->who[i]];
        if (a->desc.rule != SUBSPACE_MEAN)
            subspace_run(a, t, bytes / each, NULL, numbers);
        else
            for (i = 0; i < a->count; i++)
                if (a->factor[i] != 0.0 && weft_run_count_nonfinite(a->kernels, a->desc.pool, t, bytes / each, a->x[i]))
                    numbers[a->count + i] = (double)INFINITY;
    }
}

/* One shard of the aggregate, into `into` (the shard's beginning first), or, if that is NULL, into the tensors `to`,
 * and in place with shared memory into everybody's. */
WEFT_FN void subspace_mix_chunk(subspace *a, const subspace_chunk *c, uint32_t shard, unsigned char *into,
                                const weft_tensor *to, long only) {
    const size_t lo = subspace_shard(c, shard);
    weft_range at = weft_range_map(&a->map, a->desc.gradients.tensor, NULL, 0, lo, subspace_shard(c, shard + 1));
    unsigned char *own, *out;
    size_t each, which, bytes;
    uint32_t i;
    while ((bytes = weft_range_next(&at, subspace_stretch(a, c, at.at - lo), &own, &each, &which)) != 0) {
        const size_t group = a->group_of ? a->group_of[which] : 0, from = at.at - bytes;
        const weft_dtype t = a->map.tensor[which].dtype;
        if (only != SUBSPACE_ALL_GROUPS && (size_t)only != group) continue;
        subspace_sources(a, c, shard, from, which, own);
        out = into ? into + (from - lo) : (unsigned char *)to[which].data + (from - a->map.position[which]);
        for (i = 0; i < a->count; i++) a->factor[i] = subspace_factor(a, group, a->who[i]);
        if (a->desc.rule == SUBSPACE_MEAN)
            a->nonfinite +=
                weft_run_weighted_sum(a->mixing, a->desc.pool, t, bytes / each, a->count, a->factor, a->x, out);
        else
            a->nonfinite += subspace_mix_run(a, t, bytes / each, group, out);
        for (i = 0; a->shared && !into && !a->set && i < a->count; i++)
            if (i != a->self)
                memcpy((unsigned char *)a->theirs[a->who[i]]->desc.gradients.tensor[which].data +
                           (from - a->map.position[which]),
                       out, bytes);
    }
}

/* ---- Coefficients: from the sums to what each gradient is multiplied by ---- */

/* The k-th smallest alpha's place among the n that count, ties by rank. */
WEFT_FN void subspace_sort(subspace *a, const double *alpha, uint32_t n) {
    uint32_t i, k;
    for (i = 0; i < n; i++) {
        for (k = i; k > 0 && alpha[a->order[k - 1]] > alpha[i]; k--) a->order[k] = a->order[k - 1];
        a->order[k] = i;
    }
}

/* Weights of a group from its alphas: sorted, averaged over steps, given back, and made to sum to 1 (lines 5 to 8 of
 * the published sequence). a->place: the n who count. */
WEFT_FN void subspace_weigh(subspace *a, size_t group, uint32_t n, double samples) {
    double *alpha = a->factor; /* scratch here */
    double *w = a->weight + group * a->rows, *slot = a->new_slots + group * a->rows, sum = 0.0, size = 0.0, least = 0.0;
    const double *old = a->slots + group * a->rows, beta = a->desc.momentum;
    uint32_t i, k;
#define SUBSPACE_RANK(i) a->who[a->place[i]]
    for (i = 0; i < n; i++) alpha[i] = a->alpha[group * a->rows + SUBSPACE_RANK(i)];
    subspace_sort(a, alpha, n);
    for (k = 0; k < n; k++) {
        slot[k] = alpha[a->order[k]];
        if (n == a->count && a->slot_count[group] == n) slot[k] = beta * old[k] + (1.0 - beta) * slot[k];
    }
    for (i = 0; i < n; i++) {
        if (a->desc.assignment == SUBSPACE_FORWARD)
            w[SUBSPACE_RANK(i)] = slot[a->order[i]];
        else
            w[SUBSPACE_RANK(a->order[i])] = slot[i];
    }
    for (i = 0; i < n; i++)
        if (w[SUBSPACE_RANK(i)] < least) least = w[SUBSPACE_RANK(i)];
    for (i = 0; i < n; i++) {
        double *v = &w[SUBSPACE_RANK(i)];
        if (a->desc.negative == SUBSPACE_NEGATIVE_SHIFT) *v -= least;
        if (a->desc.negative == SUBSPACE_NEGATIVE_CLAMP && *v < 0.0) *v = 0.0;
        *v *= a->samples[SUBSPACE_RANK(i)];
        sum += *v;
        size += *v < 0.0 ? -*v : *v;
    }
    /* nothing to divide by; the published code divides by whatever is not exactly zero */
    if (a->desc.assignment == SUBSPACE_FORWARD ? sum == 0.0 || !weft_is_finite(sum) : !(sum > 1e-6 * size)) {
        a->zero_sums++;
        for (i = 0; i < n; i++) w[SUBSPACE_RANK(i)] = a->samples[SUBSPACE_RANK(i)] / samples;
    } else {
        for (i = 0; i < n; i++) w[SUBSPACE_RANK(i)] /= sum;
    }
}

/* What the aggregate of a group is multiplied by. */
WEFT_FN double subspace_rescale(subspace *a, size_t group, uint32_t n, double samples) {
    const double *c = a->coefficient + group * a->rows, *norm = a->norm + group * a->rows;
    const double *dots = a->total + group * 2 * a->count;
    double mean = 0.0, along = 0.0, length = 0.0;
    uint32_t i;
    if (a->desc.scale == SUBSPACE_SCALE_OFF) return 1.0;
    for (i = 0; i < n; i++) {
        const uint32_t r = SUBSPACE_RANK(i);
        const double p = a->samples[r] / samples, dot = dots[a->place[i]] / samples;
        mean += p * dot;     /* |mean|^2 */
        along += c[r] * dot; /* <psi, mean> */
        length += p * norm[r];
    }
    if (a->desc.scale == SUBSPACE_SCALE_PROJECTION) {
        if (along > 0.0 && weft_is_finite(mean / along)) return mean / along;
        a->scale_fallbacks++;
    }
    return length;
}

/* The coefficients of a group, from a->total. 0: nobody is left in it. */
WEFT_FN int subspace_coefficients(subspace *a, size_t group) {
    double *alpha = a->alpha + group * a->rows, *c = a->coefficient + group * a->rows,
           *norm = a->norm + group * a->rows;
    double *w = a->weight + group * a->rows, samples = 0.0;
    const double *dot = a->total + group * 2 * a->count, *square = dot + a->count;
    uint32_t n = 0, i;
    for (i = 0; i < a->rows; i++) {
        c[i] = w[i] = 0.0;
        norm[i] = alpha[i] = (double)NAN;
    }
    for (i = 0; i < a->count; i++) {
        if (a->excluded[group * a->rows + a->who[i]]) continue;
        a->place[n++] = i;
        samples += a->samples[a->who[i]];
    }
    if (!n) return 0;
    for (i = 0; i < n; i++) {
        const uint32_t r = SUBSPACE_RANK(i);
        norm[r] = a->desc.rule == SUBSPACE_MEAN ? 0.0 : sqrt(square[a->place[i]]);
        alpha[r] = dot[a->place[i]] / (norm[r] + a->desc.epsilon) / samples;
        if (!weft_is_finite(alpha[r])) alpha[r] = 0.0; /* without an epsilon: of nothing */
    }
    if (a->desc.rule == SUBSPACE_NORMALISED) {
        if (n == a->count && a->slot_count[group] && a->slot_count[group] != n) a->restarts++;
        subspace_weigh(a, group, n, samples);
    }
    for (i = 0; i < n; i++) {
        const uint32_t r = SUBSPACE_RANK(i);
        const double p = a->samples[r] / samples, length = norm[r] + a->desc.epsilon;
        if (a->desc.rule == SUBSPACE_NORMALISED)
            c[r] = length > 0.0 ? w[r] / length : 0.0;
        else
            c[r] = w[r] = a->desc.rule == SUBSPACE_MEAN ? p : (double)n * p * (dot[a->place[i]] / samples);
    }
    a->scale[group] = subspace_rescale(a, group, n, samples);
    a->alone_in[group] = n == 1 && a->desc.scale == SUBSPACE_SCALE_PROJECTION;
    return 1;
}
#undef SUBSPACE_RANK

WEFT_FN int subspace_all_coefficients(subspace *a) {
    size_t g;
    a->zero_sums = a->scale_fallbacks = a->restarts = 0;
    for (g = 0; g < a->groups; g++)
        if (!subspace_coefficients(a, g)) return 0;
    return 1;
}

/* The round is over: what it leaves behind. */
WEFT_FN void subspace_count_round(subspace *a) {
    size_t g;
    uint32_t i, out = 0;
    for (g = 0; g < a->groups; g++) {
        uint32_t left = 0;
        for (i = 0; i < a->count; i++) left += a->excluded[g * a->rows + a->who[i]];
        if (left || a->desc.rule != SUBSPACE_NORMALISED) continue; /* the slots are of all workers: they sit it out */
        memcpy(a->slots + g * a->rows, a->new_slots + g * a->rows, a->count * sizeof *a->slots);
        a->slot_count[g] = a->count;
    }
    for (i = 0; i < a->count; i++) {
        for (g = 0; g < a->groups && !a->excluded[g * a->rows + a->who[i]]; g++) continue;
        out += g < a->groups;
    }
    a->stats.nonfinite_gradients += out;
    a->stats.rounds++;
    a->stats.participants = a->count - out;
    a->stats.zero_sums += a->zero_sums;
    a->stats.scale_fallbacks += a->scale_fallbacks;
    a->stats.restarts += a->restarts;
}

/* Whoever's gradient of a group is not finite is marked. Returns how many are new; *lowest: the lowest of their
 * ranks. */
WEFT_FN uint32_t subspace_mark(subspace *a, size_t group, uint32_t *lowest) {
    uint32_t i, found = 0;
    for (i = 0; i < a->count; i++) {
        const uint32_t r = a->who[i];
        if (a->excluded[group * a->rows + r] || weft_is_finite(a->total[group * 2 * a->count + a->count + i])) continue;
        a->excluded[group * a->rows + r] = 1;
        if (r < *lowest) *lowest = r;
        found++;
    }
    return found;
}

WEFT_FN uint32_t subspace_mark_all(subspace *a, uint32_t *lowest) {
    uint32_t found = 0;
    size_t g;
    *lowest = WEFT_NO_RANK;
    for (g = 0; g < a->groups; g++) found += subspace_mark(a, g, lowest);
    return found;
}

/* ---- A round over the transport ---- */

WEFT_FN WEFT_NOINLINE void subspace_phase(subspace *a, int state, const char *phase) {
    a->state = state;
    a->group.phase = phase;
    a->group.phase_round = a->round + 1;
    a->group.may_leave = state == SUBSPACE_IDLE || state == SUBSPACE_MEET || state == SUBSPACE_LEAVING;
}

WEFT_FN void subspace_idle(subspace *a) {
    subspace_phase(a, SUBSPACE_IDLE, WEFT_TEXT("between rounds"));
}

/* Appends positions lo .. end - 1, in chunks. */
WEFT_FN void subspace_append(subspace *a, size_t lo, size_t end, size_t tensor, uint64_t submission) {
    size_t hi;
    for (; lo < end; lo = hi) {
        subspace_chunk *c = &a->chunk[a->chunks];
        hi = end - lo > SUBSPACE_CHUNK ? lo + SUBSPACE_CHUNK : end;
        c->lo = lo;
        c->hi = hi;
        c->tensor = tensor;
        if (a->shared)
            c->slot = lo;
        else if (a->moving)
            c->slot = 0; /* one is home before the next is begun */
        else             /* after the one before, wherever in the model that was: submissions come in any order */
            c->slot = a->chunks ? c[-1].slot + (c[-1].hi - c[-1].lo) + a->rows * WEFT_ALIGNMENT : 0;
        c->unit = 0;
        c->submission = submission;
        a->chunks++;
    }
}

/* Tensors first .. first + count - 1, as one submission. */
WEFT_FN void subspace_append_tensors(subspace *a, size_t first, size_t count) {
    const uint64_t submission = (uint64_t)first << 32 | (uint64_t)count;
    size_t i;
    if (!a->desc.in_place)
        subspace_append(a, a->map.position[first], a->map.position[first + count], first, submission);
    for (i = first; a->desc.in_place && i < first + count; i++) {
        const weft_tensor *t = &a->map.tensor[i];
        subspace_append(a, a->map.position[i], a->map.position[i] + t->count * weft_dtype_bytes(t->dtype), i,
                        submission);
    }
}

WEFT_FN void subspace_cut_shards(const subspace *a, subspace_chunk *c) {
    const size_t each = (c->hi - c->lo + a->count - 1) / a->count;
    c->unit = (each + WEFT_ALIGNMENT - 1) / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
}

WEFT_FN double *subspace_row(subspace *a, uint32_t rank) {
    return a->numbers + (size_t)rank * a->groups * 2 * a->count;
}

WEFT_FN size_t subspace_row_numbers(const subspace *a) {
    return a->groups * 2 * a->count;
}

/* So that sums and products of them stay in range. */
WEFT_FN int subspace_samples_fit(double samples) {
    return samples >= 1e-100 && samples <= 1e100;
}

/* How many samples this worker stands for is told to everybody, and everybody's heard; with shared memory also where
 * the object is. */
WEFT_FN void subspace_begin_meet(subspace *a) {
    weft_group_trace(&a->group, WEFT_EVENT_ROUND_BEGUN, WEFT_NO_RANK, a->round + 1, 0);
    subspace_phase(a, SUBSPACE_MEET, WEFT_TEXT("meeting for a round"));
    if (a->shared) a->theirs[a->group.net->rank] = a;
    weft_gather_begin(&a->group, a->group.member, a->group.members, a->round + 1, 0, a->theirs,
                      a->shared ? sizeof(subspace *) : 0, a->shared ? sizeof(subspace *) : 1,
                      weft_double_bits(a->own_samples));
}

/* Only those still in the view take part: a worker may have said good-bye instead. */
WEFT_FN weft_status subspace_meet_poll(subspace *a) {
    weft_group *n = &a->group;
    weft_status s = weft_group_poll(n);
    size_t i;
    if (s != WEFT_OK) return s;
    a->count = 0;
    for (i = 0; i < n->members; i++) {
        const uint32_t r = n->member[i];
        double samples = a->own_samples;
        if (r != n->net->rank) memcpy(&samples, &n->peer[r].in_arg, sizeof samples);
        if (!subspace_samples_fit(samples))
            return weft_group_break(n, WEFT_ERR_PROTOCOL, r, WEFT_TEXT("samples"), weft_double_bits(1.0),
                                    weft_double_bits(samples));
        a->samples[r] = samples;
        if (r == n->net->rank) a->self = a->count;
        a->who[a->count++] = r;
    }
    for (i = 0; i < subspace_row_numbers(a); i++) a->total[i] = subspace_row(a, n->net->rank)[i] = 0.0;
    if (a->desc.rule == SUBSPACE_MEAN) subspace_all_coefficients(a);
    subspace_phase(a, SUBSPACE_SCATTER, WEFT_TEXT("exchanging gradients"));
    return WEFT_OK;
}

/* A word to and from every participant. */
WEFT_FN void subspace_begin_word(subspace *a, uint32_t step, uint64_t word) {
    weft_gather_begin(&a->group, a->who, a->count, a->round + 1, step, NULL, 0, 1, word);
}

/* Shard i of this worker's gradient goes to participant i, and this worker's shard of everybody's comes here. With
 * shared memory everyone says that the chunk may be read. */
WEFT_FN void subspace_begin_scatter(subspace *a, subspace_chunk *c) {
    const weft_tensor *t = a->desc.gradients.tensor;
    size_t lo, hi;
    uint32_t i;
    subspace_cut_shards(a, c);
    a->in_flight = 1;
    if (a->shared) {
        subspace_begin_word(a, ++a->step, c->submission);
        return;
    }
    WEFT_GPU_SETTLE(a->map); /* what is sent has been written, and what was in the mirror, used */
    lo = subspace_shard(c, a->self);
    hi = subspace_shard(c, a->self + 1);
    weft_group_begin(&a->group, WEFT_KIND_EXCHANGE, a->round + 1, ++a->step);
    for (i = 0; i < a->count; i++) {
        weft_range out = weft_range_map(&a->map, t, NULL, 0, subspace_shard(c, i), subspace_shard(c, i + 1));
        weft_range in = weft_range_map(&a->map, NULL, a->mirror + c->slot + i * c->unit, lo, lo, hi);
        if (i != a->self) weft_group_flow(&a->group, a->who[i], &out, &in, c->submission);
    }
}

/* Moving: the pieces of a chunk that has arrived take the places of the shards that have gone. */
WEFT_FN void subspace_bring_home(subspace *a, const subspace_chunk *c) {
    const size_t length = subspace_shard(c, a->self + 1) - subspace_shard(c, a->self), fits = subspace_fits(c);
    uint32_t i;
    for (i = 0; a->moving && i < a->count; i++) {
        size_t at = i * c->unit, end = at + length, part;
        for (; i != a->self && at < end; at += part) {
            part = at < fits && fits < end ? fits - at : end - at;
            weft_data_copy(WEFT_GPU_IN(a->map), subspace_home(a, c, at), a->mirror + c->slot + at, part);
        }
    }
}

/* The aggregate's own shard goes to all, and theirs come here. With shared memory everyone says that it may be read. */
WEFT_FN void subspace_begin_gather(subspace *a, const subspace_chunk *c) {
    const size_t lo = subspace_shard(c, a->self), hi = subspace_shard(c, a->self + 1);
    const weft_tensor *t = a->desc.gradients.tensor; /* where there is no mirror */
    unsigned char *mirror = a->desc.in_place ? NULL : a->mirror + c->slot;
    uint32_t i;
    a->in_flight = 1;
    if (a->shared) {
        subspace_begin_word(a, ++a->step, a->nonfinite != 0);
        return;
    }
    weft_group_begin(&a->group, WEFT_KIND_EXCHANGE, a->round + 1, ++a->step);
    for (i = 0; i < a->count; i++) {
        weft_range out = weft_range_map(&a->map, t, mirror, c->lo, lo, hi);
        weft_range in = weft_range_map(&a->map, t, mirror, c->lo, subspace_shard(c, i), subspace_shard(c, i + 1));
        if (i != a->self) weft_group_flow(&a->group, a->who[i], &out, &in, a->nonfinite != 0);
    }
}

WEFT_FN void subspace_own_mix(subspace *a, const subspace_chunk *c) {
    subspace_mix_chunk(a, c, a->self, a->desc.in_place ? NULL : a->mirror + c->slot + a->self * c->unit,
                       a->desc.gradients.tensor, SUBSPACE_ALL_GROUPS);
}

/* The plain mean is formed as soon as a chunk is here, but for in place: then not before all are known to be finite. */
WEFT_FN int subspace_mixes_early(const subspace *a) {
    return a->desc.rule == SUBSPACE_MEAN && !a->desc.in_place;
}

/* A chunk is here: its numbers, or the mean at once. */
WEFT_FN void subspace_own_sum(subspace *a, const subspace_chunk *c) {
    const uint64_t before = a->nonfinite;
    if (subspace_mixes_early(a)) subspace_own_mix(a, c);
    if (!subspace_mixes_early(a) || a->nonfinite != before)
        subspace_sum_chunk(a, c, a->self, subspace_row(a, a->group.net->rank), SUBSPACE_ALL_GROUPS);
}

WEFT_FN void subspace_begin_numbers(subspace *a) {
    subspace_phase(a, SUBSPACE_NUMBERS, WEFT_TEXT("exchanging dots and norms"));
    weft_gather_begin(&a->group, a->who, a->count, a->round + 1, ++a->step, a->numbers,
                      subspace_row_numbers(a) * sizeof(double), sizeof(double), 0);
}

/* Polls an exchange in which everybody must have the same range under way; 0: none any more. */
WEFT_FN weft_status subspace_poll_range(subspace *a, uint64_t submission) {
    weft_group *n = &a->group;
    const weft_status s = weft_group_poll(n);
    uint32_t i;
    for (i = 0; s >= 0 && i < a->count; i++) {
        const weft_peer *p = &n->peer[a->who[i]];
        if (i != a->self && p->in.state != WEFT_FLOW_WAITING && p->in_arg != submission)
            return weft_group_break(n, WEFT_ERR_MISMATCH, a->who[i], WEFT_TEXT("range submitted (first << 32 | count)"),
                                    submission, p->in_arg);
    }
    return s;
}

/* Another range is as a rule of another length, too, which is noticed first: the host is told of the range. */
WEFT_FN weft_status subspace_explain(subspace *a, weft_status s) {
    weft_group *n = &a->group;
    const uint32_t r = n->broken.peer;
    if (s != WEFT_ERR_PROTOCOL || n->failed != s || r >= n->net->size ||
        (a->state != SUBSPACE_SCATTER && a->state != SUBSPACE_NUMBERS) || n->peer[r].control != WEFT_IN_HELD ||
        n->peer[r].head.kind != WEFT_KIND_EXCHANGE || n->peer[r].head.round != n->round ||
        n->peer[r].head.step != n->step || n->peer[r].head.arg0 == n->peer[r].out_arg)
        return s;
    return weft_group_break(n, WEFT_ERR_MISMATCH, r, WEFT_TEXT("range submitted (first << 32 | count)"),
                            n->peer[r].out_arg, n->peer[r].head.arg0);
}

/* Chunk by chunk: while one is under way, the one before is summed. */
WEFT_FN weft_status subspace_scatter_poll(subspace *a) {
    weft_group *n = &a->group;
    weft_status s;
    for (;;) {
        if (a->in_flight && a->summed + 1 == a->begun) { /* nothing to sum meanwhile */
            if ((s = subspace_poll_range(a, a->chunk[a->begun - 1].submission)) != WEFT_OK) return s;
            subspace_bring_home(a, &a->chunk[a->begun - 1]);
            a->in_flight = 0;
        }
        if (!a->in_flight && a->begun < a->chunks) subspace_begin_scatter(a, &a->chunk[a->begun++]);
        if (a->summed + (uint32_t)a->in_flight < a->begun) {
            if ((s = weft_group_pump(n)) < 0) return s; /* so that what was just begun is under way */
            subspace_own_sum(a, &a->chunk[a->summed++]);
            continue;
        }
        if (a->in_flight) continue;
        if (!a->waiting) {
            subspace_begin_numbers(a);
            return WEFT_OK;
        }
        return (s = weft_group_pump(n)) < 0 ? s : WEFT_WANT_GRADIENT;
    }
}

/* This round comes to nothing: are the gradients what they were? With shared memory others write them from `written`
 * on. */
WEFT_FN void subspace_lose(subspace *a, int written) {
    if (a->moving) /* a chunk under way is not home yet */
        a->lost |= a->begun > (a->state == SUBSPACE_SCATTER ? (uint32_t)a->in_flight : 0u);
    if (a->shared && a->desc.in_place) a->lost |= a->state >= written;
}

/* All workers agree that this round comes to nothing. */
WEFT_FN weft_status subspace_reject(subspace *a, uint32_t rank, const char *field) {
    if (!a->set) { /* the others know nothing of what is combined here */
        a->round++;
        a->settled = weft_round_id(a->round, a->group.epoch);
    }
    subspace_lose(a, SUBSPACE_GATHER);
    a->stats.rounds_abandoned++;
    a->stats.nonfinite_gradients++;
    weft_group_trace(&a->group, WEFT_EVENT_ABANDONED, WEFT_NO_RANK, a->round, 0);
    weft_group_fail(&a->group, WEFT_ERR_NONFINITE, rank, field, 0, 0);
    subspace_forget(a);
    a->count = 0;
    subspace_idle(a);
    return WEFT_ERR_NONFINITE;
}

/* The numbers are here: added in rank order, so that all workers sort the same bits. */
WEFT_FN weft_status subspace_numbers_poll(subspace *a) {
    const weft_status s = subspace_poll_range(a, 0);
    const size_t n = subspace_row_numbers(a);
    size_t k;
    uint32_t i, lowest;
    if (s != WEFT_OK) return s;
    for (k = 0; k < n; k++) {
        a->total[k] = 0.0;
        for (i = 0; i < a->count; i++) a->total[k] += subspace_row(a, a->who[i])[k];
    }
    if (subspace_mark_all(a, &lowest)) {
        if (a->desc.guard == SUBSPACE_GUARD_REJECT) return subspace_reject(a, lowest, WEFT_TEXT("gradient"));
        /* once more without them: their values are in the others' numbers. The pieces are all still here. */
        a->attempts++;
        a->nonfinite = 0;
        for (k = 0; k < n; k++) subspace_row(a, a->group.net->rank)[k] = 0.0;
        if (a->desc.rule == SUBSPACE_MEAN && !subspace_all_coefficients(a))
            return subspace_reject(a, lowest, WEFT_TEXT("gradient"));
        for (i = 0; i < a->chunks; i++) subspace_own_sum(a, &a->chunk[i]);
        subspace_begin_numbers(a);
        return WEFT_OK;
    }
    if (!subspace_all_coefficients(a)) return subspace_reject(a, WEFT_NO_RANK, WEFT_TEXT("gradients of a group"));
    if (subspace_mixes_early(a))
        a->mixed = a->chunks;
    else
        a->nonfinite = 0;
    subspace_phase(a, SUBSPACE_GATHER, WEFT_TEXT("exchanging the aggregate"));
    return WEFT_OK;
}

/* Elements that are not finite in a shard of the aggregate that has come: whoever formed it has looked, but it has
 * crossed the wire since. */
WEFT_FN uint64_t subspace_count_shard(const subspace *a, const subspace_chunk *c, uint32_t shard) {
    weft_range at = weft_range_map(&a->map, a->desc.gradients.tensor, a->desc.in_place ? NULL : a->mirror + c->slot,
                                   c->lo, subspace_shard(c, shard), subspace_shard(c, shard + 1));
    unsigned char *p;
    size_t each, which, bytes;
    uint64_t n = 0;
    while ((bytes = weft_range_next(&at, SIZE_MAX, &p, &each, &which)) != 0)
        n += weft_run_count_nonfinite(a->kernels, a->desc.pool, a->map.tensor[which].dtype, bytes / each, p);
    return n;
}

/* Chunk by chunk, the last one, which is still in the cache, first: while one is under way, the next one is formed. */
WEFT_FN weft_status subspace_gather_poll(subspace *a) {
    weft_status s;
    uint32_t i;
    for (;;) {
        if (a->in_flight) {
            if (a->mixed < a->chunks && a->mixed == a->gathered + 1) {
                if ((s = weft_group_pump(&a->group)) < 0) return s;
                subspace_own_mix(a, &a->chunk[a->chunks - 1 - a->mixed++]);
            }
            if ((s = weft_group_poll(&a->group)) != WEFT_OK) return s;
            /* whoever has all of the aggregate also knows whether all of it is finite */
            for (i = 0; i < a->count; i++) {
                if (i == a->self) continue;
                if (a->group.peer[a->who[i]].in_arg)
                    a->nonfinite++;
                else if (!a->shared && subspace_count_shard(a, &a->chunk[a->chunks - 1 - a->gathered], i))
                    return weft_group_break(&a->group, WEFT_ERR_PROTOCOL, a->who[i],
                                            WEFT_TEXT("aggregate (not finite)"), 0, 1);
            }
            a->in_flight = 0;
            a->gathered++;
        }
        if (a->gathered == a->chunks) break;
        if (a->mixed == a->gathered) subspace_own_mix(a, &a->chunk[a->chunks - 1 - a->mixed++]);
        subspace_begin_gather(a, &a->chunk[a->chunks - 1 - a->gathered]);
    }
    subspace_phase(a, SUBSPACE_HAVE, WEFT_TEXT("telling that it is here"));
    a->have = a->nonfinite ? 0 : weft_round_id(a->round + 1, a->group.epoch);
    subspace_begin_word(a, WEFT_STEP_HAVE, 0);
    return WEFT_OK;
}

/* The only place where a round writes the host's gradients, but for in place. */
WEFT_FN void subspace_commit(subspace *a) {
    unsigned char *to;
    size_t each, which, bytes;
    uint32_t i, shard;
    for (i = 0; i < a->chunks && !a->desc.in_place; i++) {
        const subspace_chunk *c = &a->chunk[i];
        for (shard = 0; shard < a->count; shard++) {
            const unsigned char *mirror = a->shared ? a->theirs[a->who[shard]]->mirror : a->mirror;
            weft_range at = weft_range_map(&a->map, a->desc.gradients.tensor, NULL, 0, subspace_shard(c, shard),
                                           subspace_shard(c, shard + 1));
            while ((bytes = weft_range_next(&at, SIZE_MAX, &to, &each, &which)) != 0)
                weft_data_copy(WEFT_GPU_IN(a->map), to, mirror + c->slot + (at.at - bytes - c->lo), bytes);
        }
    }
    a->round++;
    a->lost = 0;
    a->averaged = a->settled = a->have;
    subspace_count_round(a);
    weft_group_trace(&a->group, WEFT_EVENT_COMMITTED, WEFT_NO_RANK, a->round, a->count);
    subspace_forget(a);
    subspace_idle(a);
}

/* Nobody's memory is looked at any more once all have said so: whoever goes may go. */
WEFT_FN void subspace_begin_copied(subspace *a, const uint32_t *who, uint32_t count) {
    subspace_phase(a, SUBSPACE_COPIED, WEFT_TEXT("telling that it is copied"));
    a->group.phase_round = a->round;
    weft_gather_begin(&a->group, who, count, a->round, SUBSPACE_STEP_COPIED, NULL, 0, 1, 0);
}

WEFT_FN weft_status subspace_then(subspace *a);

WEFT_FN weft_status subspace_copied_poll(subspace *a) {
    const weft_status s = weft_group_poll(&a->group);
    if (s != WEFT_OK) return s;
    subspace_idle(a);
    return subspace_then(a);
}

WEFT_FN weft_status subspace_have_poll(subspace *a) {
    const weft_status s = weft_group_poll(&a->group);
    if (s != WEFT_OK) return s;
    if (a->nonfinite) return subspace_reject(a, WEFT_NO_RANK, WEFT_TEXT("aggregate (overflow)"));
    subspace_commit(a);
    if (a->shared && !a->desc.in_place) subspace_begin_copied(a, a->who, a->count);
    return WEFT_OK;
}

/* ---- First contact, and new views ---- */

WEFT_FN int subspace_in_round(const subspace *a) {
    return a->state >= SUBSPACE_MEET && a->state <= SUBSPACE_HAVE;
}

WEFT_FN void subspace_begin_sync(subspace *a) {
    uint64_t *f = a->sync.mine;
    /* a second loss before the first is settled changes nothing about the round that was cut short */
    if (a->state != SUBSPACE_SYNC) {
        a->cut = subspace_in_round(a);
        if (a->cut) subspace_lose(a, SUBSPACE_NUMBERS); /* others may be ahead */
    }
    f[WEFT_SYNC_COMMITTED] = a->settled;
    f[WEFT_SYNC_HAVE] = a->have;
    f[WEFT_SYNC_FRESH] = a->joined ? 0 : SUBSPACE_SYNC_FRESH;
    f[WEFT_SYNC_HASH] = a->averaged;
    subspace_phase(a, SUBSPACE_SYNC, WEFT_TEXT("agreeing on a view"));
    weft_sync_begin(&a->sync, &a->group);
    a->group.phase_round = a->round;
}

WEFT_FN weft_status subspace_sync_poll(subspace *a) {
    weft_group *n = &a->group;
    weft_status s = weft_sync_poll(&a->sync, n);
    uint64_t averaged = 0;
    uint32_t i;
    int behind = 0, copies = 0;
    size_t g;
    if (s != WEFT_OK) return s;
    for (i = 0; i < n->members; i++) {
        const uint32_t r = n->member[i];
        const uint64_t have = weft_sync_field(&a->sync, r, WEFT_SYNC_HAVE);
        const int commits = weft_sync_commits(&a->sync, have);
        const uint64_t id = commits ? have : weft_sync_field(&a->sync, r, WEFT_SYNC_HASH);
        if (!i) averaged = id;
        behind |= (weft_sync_field(&a->sync, r, WEFT_SYNC_FRESH) & SUBSPACE_SYNC_FRESH) != 0 || id != averaged;
        copies |= commits;
    }
    if (a->cut && weft_sync_commits(&a->sync, a->have)) {
        a->wanting = 0;
        subspace_commit(a);
    } else if (a->cut) {
        a->stats.rounds_abandoned++;
        a->wanting = 1;
        weft_group_trace(n, WEFT_EVENT_ABANDONED, WEFT_NO_RANK, a->round + 1, 0);
        subspace_forget(a);
        a->count = 0;
    }
    /* whoever is new, or was away while the others went on, has not their slots: then nobody has any */
    for (g = 0; g < a->groups && behind; g++) {
        a->stats.restarts += a->slot_count[g] != 0;
        a->slot_count[g] = 0;
    }
    if (behind) a->averaged = 0; /* whoever has not come to the end of this agreement still has them */
    a->joined = 1;
    a->cut = 0;
    a->round = a->sync.committed;
    a->settled = a->sync.committed_id;
    a->have = 0;
    if (copies && a->shared && !a->desc.in_place) {
        subspace_begin_copied(a, n->member, n->members);
        return WEFT_OK;
    }
    subspace_idle(a);
    return subspace_then(a);
}

/* ---- Leaving, and driving ---- */

WEFT_FN void subspace_begin_leave(subspace *a) {
    subspace_phase(a, SUBSPACE_LEAVING, WEFT_TEXT("saying good-bye"));
}

WEFT_FN weft_status subspace_leaving_poll(subspace *a) {
    weft_status s = weft_group_pump(&a->group);
    if (s != WEFT_OK || (s = weft_group_leave(&a->group, a->round + 1)) != WEFT_OK) return s;
    subspace_phase(a, SUBSPACE_LEFT, WEFT_TEXT("gone"));
    return WEFT_OK;
}

WEFT_FN weft_status subspace_then(subspace *a) {
    const int then = a->then;
    a->then = SUBSPACE_THEN_IDLE;
    if (then == SUBSPACE_THEN_ROUND && !a->wanting) subspace_begin_meet(a);
    if (then == SUBSPACE_THEN_LEAVE) subspace_begin_leave(a);
    return WEFT_OK;
}

/* One phase after the other until one has to wait. */
WEFT_FN weft_status subspace_drive(subspace *a) {
    weft_status s = WEFT_OK;
    while (s == WEFT_OK) {
        switch (a->state) {
        case SUBSPACE_IDLE:
            s = a->group.synced || a->group.failed ? weft_group_pump(&a->group) : WEFT_OK;
            return s == WEFT_OK && a->wanting ? WEFT_WANT_GRADIENT : s;
        case SUBSPACE_SYNC: s = subspace_sync_poll(a); break;
        case SUBSPACE_MEET: s = subspace_meet_poll(a); break;
        case SUBSPACE_SCATTER: s = subspace_scatter_poll(a); break;
        case SUBSPACE_NUMBERS: s = subspace_numbers_poll(a); break;
        case SUBSPACE_GATHER: s = subspace_gather_poll(a); break;
        case SUBSPACE_HAVE: s = subspace_have_poll(a); break;
        case SUBSPACE_COPIED: s = subspace_copied_poll(a); break;
        case SUBSPACE_LEAVING: s = subspace_leaving_poll(a); break;
        default: return WEFT_OK;
        }
    }
    return subspace_explain(a, s);
}

/* ---- Verbs ---- */

#define SUBSPACE_ONLY_IDLE (1u << SUBSPACE_IDLE)
#define SUBSPACE_ANY_LIVE ((1u << SUBSPACE_LEFT) - 1u)
/* COPIED: of a round that was submitted while a view was being agreed on */
#define SUBSPACE_SUBMITTING                                                                                            \
    (1u << SUBSPACE_IDLE | 1u << SUBSPACE_SYNC | 1u << SUBSPACE_MEET | 1u << SUBSPACE_SCATTER | 1u << SUBSPACE_COPIED)

/* A verb begins. `states`: bit a state in which it is legal. Ends with subspace_exit. */
WEFT_FN weft_status subspace_enter(subspace *a, uint32_t states) {
    if (!a || a->magic != SUBSPACE_MAGIC) return WEFT_ERR_ARGUMENT;
    if (a->group.busy) return WEFT_ERR_REENTRY;
    if (!(states >> a->state & 1u))
        return weft_group_fail(&a->group, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("state"), states, (uint64_t)a->state);
    a->group.busy = 1;
    a->group.detail = weft_detail_none();
    return WEFT_OK;
}

WEFT_FN WEFT_NOINLINE weft_status subspace_exit(subspace *a, weft_status s) {
    const weft_status device = WEFT_GPU_BREAKS_GROUP(&a->group);
    a->group.busy = 0;
    if (device < 0) s = device; /* whatever else came of it */
    if (s > 0) a->group.detail.status = s;
    return s;
}

WEFT_FN weft_status subspace_refuse(subspace *a, weft_status s, const char *field, uint64_t expected, uint64_t got) {
    return subspace_exit(a, weft_group_fail(&a->group, s, WEFT_NO_RANK, field, expected, got));
}

/* Tensors first .. first + count - 1, none of which is submitted yet, are. Begins the round if they are the first. */
WEFT_FN void subspace_take(subspace *a, size_t first, size_t count) {
    memset(a->submitted + first, 1, count);
    a->waiting -= count;
    subspace_append_tensors(a, first, count);
    if (!a->cut) a->lost = 0; /* else it is of the round that was cut short */
    if (a->state == SUBSPACE_SYNC && !a->cut) a->then = SUBSPACE_THEN_ROUND;
    if (a->state == SUBSPACE_IDLE || a->then == SUBSPACE_THEN_ROUND) a->wanting = 0;
    if (a->state != SUBSPACE_IDLE) return;
    if (a->group.synced) {
        subspace_begin_meet(a);
    } else {
        a->then = SUBSPACE_THEN_ROUND;
        subspace_begin_sync(a);
    }
}

SUBSPACE_API weft_status subspace_submit(subspace *a, size_t first, size_t count) {
    weft_status s = subspace_enter(a, SUBSPACE_SUBMITTING);
    size_t i;
    if (s != WEFT_OK) return s;
    if (!a->desc.transport) return subspace_refuse(a, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("transport"), 1, 0);
    if (a->then == SUBSPACE_THEN_LEAVE || (a->state == SUBSPACE_COPIED && a->then != SUBSPACE_THEN_ROUND))
        return subspace_refuse(a, WEFT_ERR_ORDER, WEFT_TEXT("state (leaving)"), 0, 1);
    if (first > a->desc.gradients.count || count > a->desc.gradients.count - first)
        return subspace_refuse(a, WEFT_ERR_ARGUMENT, WEFT_TEXT("range of tensors"), a->desc.gradients.count,
                               first > a->desc.gradients.count ? first : first + count);
    for (i = first; i < first + count; i++)
        if (a->submitted[i]) return subspace_refuse(a, WEFT_ERR_ORDER, WEFT_TEXT("tensor (submitted)"), 0, i);
    if (a->group.failed) { /* as if it had been begun and cut short: after a regroup it is wanted again */
        a->wanting = count || !a->desc.gradients.count || a->wanting;
        return subspace_exit(a, weft_group_pump(&a->group));
    }
    if (count || !a->desc.gradients.count) subspace_take(a, first, count);
    return subspace_exit(a, subspace_drive(a));
}

SUBSPACE_API weft_status subspace_aggregate(subspace *a) {
    weft_status s = WEFT_OK;
    size_t first, count = a ? a->desc.gradients.count : 0, end;
    if (a && a->magic == SUBSPACE_MAGIC && count == 0) s = subspace_submit(a, 0, 0);
    if (!a || a->magic != SUBSPACE_MAGIC) return WEFT_ERR_ARGUMENT;
    for (first = 0; first < count && s >= 0; first = end) {
        for (end = first; end < count && a->submitted[end] == a->submitted[first]; end++) continue;
        if (a->submitted[first]) continue;
        s = subspace_submit(a, first, end - first);
        if (s == WEFT_OK) return s; /* it was the last, and all is done: the marks are of the next round */
    }
    return s < 0 ? s : subspace_wait(a);
}

SUBSPACE_API weft_status subspace_poll(subspace *a) {
    weft_status s = subspace_enter(a, SUBSPACE_ANY_LIVE | 1u << SUBSPACE_LEFT);
    return s != WEFT_OK ? s : subspace_exit(a, subspace_drive(a));
}

SUBSPACE_API weft_status subspace_wait(subspace *a) {
    for (;;) {
        weft_status s = subspace_poll(a);
        const weft_transport *net;
        uint64_t until = UINT64_MAX;
        if (s != WEFT_AGAIN) return s;
        net = a->group.net;
        if (!net->wait) continue;
        if (net->now && a->desc.timeout_ns) {
            const uint64_t now = net->now(net->ctx);
            if (a->desc.timeout_ns < until - now) until = now + a->desc.timeout_ns;
        }
        net->wait(net->ctx, until);
    }
}

/* Where the tensors of a group (or all of them) stand in the map, from the first to the last of them: with many groups
 * nobody looks through everything for each. */
WEFT_FN void subspace_extent(const subspace *a, long only, size_t *lo, size_t *hi) {
    size_t i, first = a->desc.gradients.count, end = 0;
    for (i = 0; i < a->desc.gradients.count; i++) {
        if (only != SUBSPACE_ALL_GROUPS && a->group_of && a->group_of[i] != (uint32_t)only) continue;
        if (i < first) first = i;
        end = i + 1;
    }
    *lo = a->map.position[first];
    *hi = a->map.position[end];
}

/* Everyone's numbers of a group (or all of them), shard by shard as the workers would have taken them. */
WEFT_FN void subspace_combine_numbers(subspace *a, long only) {
    const size_t n = subspace_row_numbers(a), from = only < 0 ? 0 : (size_t)only * 2 * a->count;
    const size_t to = only < 0 ? n : from + 2 * a->count;
    uint32_t r, i;
    size_t k, lo, hi;
    subspace_extent(a, only, &lo, &hi);
    for (k = from; k < to; k++) a->total[k] = 0.0;
    for (r = 0; r < a->count; r++) {
        for (k = from; k < to; k++) a->numbers[k] = 0.0;
        for (i = 0; i < a->chunks; i++)
            if (subspace_shard(&a->chunk[i], r) < hi && subspace_shard(&a->chunk[i], r + 1) > lo)
                subspace_sum_chunk(a, &a->chunk[i], r, a->numbers, only);
        for (k = from; k < to; k++) a->total[k] += a->numbers[k];
    }
}

WEFT_FN void subspace_combine_mix(subspace *a, const weft_tensor *to, long only) {
    uint32_t r, i;
    size_t lo, hi;
    subspace_extent(a, only, &lo, &hi);
    for (i = a->chunks; i-- > 0;) /* what was read last is in the cache */
        for (r = a->count; r-- > 0;)
            if (subspace_shard(&a->chunk[i], r) < hi && subspace_shard(&a->chunk[i], r + 1) > lo)
                subspace_mix_chunk(a, &a->chunk[i], r, NULL, to, only);
}

/* Is `out` none of the gradients? */
WEFT_FN int subspace_apart(const subspace *a, const weft_tensors *out) {
    uint32_t i;
    size_t k;
    for (k = 0; k < out->count; k++)
        for (i = 0; i < a->count; i++)
            if (out->tensor[k].count && a->set[i].tensor[k].data == out->tensor[k].data) return 0;
    return 1;
}

WEFT_FN weft_status subspace_combine_all(subspace *a, const weft_tensors *out) {
    uint32_t lowest = WEFT_NO_RANK;
    const long groups = (long)a->groups;
    size_t k;
    long g;
    a->zero_sums = a->scale_fallbacks = a->restarts = 0;
    if (a->desc.rule == SUBSPACE_MEAN && a->desc.guard != SUBSPACE_GUARD_REJECT && subspace_apart(a, out)) {
        /* the result tells whether all are finite */
        for (k = 0; k < subspace_row_numbers(a); k++) a->total[k] = 0.0;
        subspace_all_coefficients(a);
        subspace_combine_mix(a, out->tensor, SUBSPACE_ALL_GROUPS);
        if (!a->nonfinite) return WEFT_OK;
        a->nonfinite = 0;
    }
    /* nothing may be written before everybody is known to be finite */
    if (a->desc.guard == SUBSPACE_GUARD_REJECT) {
        subspace_combine_numbers(a, SUBSPACE_ALL_GROUPS);
        if (subspace_mark_all(a, &lowest)) return subspace_reject(a, lowest, WEFT_TEXT("gradient"));
    }
    for (g = 0; g < groups; g++) {
        if (a->desc.guard != SUBSPACE_GUARD_REJECT) {
            subspace_combine_numbers(a, g);
            if (subspace_mark(a, (size_t)g, &lowest)) subspace_combine_numbers(a, g);
        }
        if (!subspace_coefficients(a, (size_t)g))
            return subspace_reject(a, WEFT_NO_RANK, WEFT_TEXT("gradients of a group"));
        subspace_combine_mix(a, out->tensor, g);
    }
    return WEFT_OK;
}

SUBSPACE_API weft_status subspace_combine(subspace *a, const weft_tensors *gradients, uint32_t n, const double *samples,
                                          const weft_tensors *out) {
    weft_status s = subspace_enter(a, SUBSPACE_ONLY_IDLE);
    uint32_t i;
    size_t k;
    if (s != WEFT_OK) return s;
    if (!n || n > a->desc.here || !gradients || !out)
        return subspace_refuse(a, WEFT_ERR_ARGUMENT, WEFT_TEXT("gradients, n, out"), a->desc.here, n);
    for (i = 0; i <= n; i++) {
        const weft_tensors *t = i < n ? &gradients[i] : out;
        if ((s = weft_tensors_check(t, 0, &a->group.detail)) != WEFT_OK ||
            (s = weft_tensors_match(&a->desc.gradients, t, &a->group.detail)) != WEFT_OK)
            return subspace_exit(a, s);
        for (k = 0; k < t->count; k++)
            if (t->tensor[k].dtype != a->desc.gradients.tensor[k].dtype)
                return subspace_refuse(a, WEFT_ERR_ARGUMENT, WEFT_TEXT("tensor.dtype"),
                                       (uint64_t)a->desc.gradients.tensor[k].dtype, (uint64_t)t->tensor[k].dtype);
    }
    for (i = 0; i < n; i++) {
        const double v = samples ? samples[i] : 1.0;
        if (!subspace_samples_fit(v))
            return subspace_refuse(a, WEFT_ERR_ARGUMENT, WEFT_TEXT("samples"), weft_double_bits(1.0),
                                   weft_double_bits(v));
        a->samples[i] = v;
        a->who[i] = i;
    }
    subspace_forget(a);
    a->count = n;
    a->set = gradients;
    if (!WEFT_GPU_IN(a->map)) a->mixing = weft_kernels_select(a->desc.isa, weft_map_bytes(&a->map));
    subspace_append_tensors(a, 0, a->desc.gradients.count);
    for (i = 0; i < a->chunks; i++) subspace_cut_shards(a, &a->chunk[i]);
    s = subspace_combine_all(a, out);
    if (s == WEFT_OK && a->nonfinite) s = subspace_reject(a, WEFT_NO_RANK, WEFT_TEXT("aggregate (overflow)"));
    a->set = NULL;
    a->mixing = a->kernels;
    if (s == WEFT_OK) {
        subspace_count_round(a);
        subspace_forget(a);
    }
    return subspace_exit(a, s);
}

SUBSPACE_API weft_status subspace_set_batch(subspace *a, double samples) {
    weft_status s = subspace_enter(a, SUBSPACE_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (!subspace_samples_fit(samples))
        return subspace_refuse(a, WEFT_ERR_ARGUMENT, WEFT_TEXT("samples"), weft_double_bits(1.0),
                               weft_double_bits(samples));
    a->own_samples = samples;
    return subspace_exit(a, WEFT_OK);
}

SUBSPACE_API weft_status subspace_leave(subspace *a) {
    weft_status s = subspace_enter(a, SUBSPACE_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (a->group.failed) return subspace_exit(a, weft_group_pump(&a->group));
    a->wanting = 0;
    if (a->group.synced) {
        subspace_begin_leave(a);
    } else {
        a->then = SUBSPACE_THEN_LEAVE;
        subspace_begin_sync(a);
    }
    return subspace_exit(a, subspace_drive(a));
}

WEFT_FN weft_status subspace_check_rank(subspace *a, uint32_t rank) {
    if (rank < a->group.net->size && rank != a->group.net->rank) return WEFT_OK;
    return weft_group_fail(&a->group, WEFT_ERR_ARGUMENT, rank, WEFT_TEXT("rank"), a->group.net->size, rank);
}

SUBSPACE_API weft_status subspace_peer_lost(subspace *a, uint32_t rank) {
    weft_status s = subspace_enter(a, SUBSPACE_ANY_LIVE);
    if (s != WEFT_OK) return s;
    if ((s = subspace_check_rank(a, rank)) == WEFT_OK) weft_group_lose(&a->group, rank);
    return subspace_exit(a, s);
}

SUBSPACE_API weft_status subspace_peer_up(subspace *a, uint32_t rank) {
    weft_status s = subspace_enter(a, SUBSPACE_ANY_LIVE);
    if (s != WEFT_OK) return s;
    if ((s = subspace_check_rank(a, rank)) == WEFT_OK) a->group.peer[rank].lost = a->group.peer[rank].left = 0;
    return subspace_exit(a, s);
}

SUBSPACE_API weft_status subspace_regroup(subspace *a, const weft_view *view) {
    weft_status s = subspace_enter(a, SUBSPACE_ANY_LIVE);
    if (s != WEFT_OK) return s;
    if ((s = weft_group_check_view(&a->group, view)) != WEFT_OK) return subspace_exit(a, s);
    /* what was submitted before first contact is a round that has not begun: it begins after this, or if only a part of
     * it was, all of it is wanted again */
    if (a->state != SUBSPACE_SYNC && a->state != SUBSPACE_COPIED && a->state != SUBSPACE_LEAVING)
        a->then = SUBSPACE_THEN_IDLE;
    if (a->then == SUBSPACE_THEN_ROUND && a->waiting) {
        subspace_forget(a);
        a->wanting = 1;
        a->then = SUBSPACE_THEN_IDLE;
    }
    if (a->state == SUBSPACE_LEAVING) a->then = SUBSPACE_THEN_LEAVE;
    weft_group_set_view(&a->group, view);
    subspace_begin_sync(a);
    return subspace_exit(a, subspace_drive(a));
}

/* ---- Saved state ---- */

/* All of it in order: measured, written and read by the same lines. */
WEFT_FN void subspace_blob(subspace *a, weft_blob *b) {
    size_t i;
    uint64_t count;
    weft_blob_u64(b, &a->round);
    weft_blob_u64(b, &a->settled);
    weft_blob_u64(b, &a->stats.rounds);
    weft_blob_u64(b, &a->stats.rounds_abandoned);
    weft_blob_u64(b, &a->stats.participants);
    weft_blob_u64(b, &a->stats.nonfinite_gradients);
    weft_blob_u64(b, &a->stats.zero_sums);
    weft_blob_u64(b, &a->stats.scale_fallbacks);
    weft_blob_u64(b, &a->stats.restarts);
    weft_blob_double(b, &a->own_samples);
    for (i = 0; i < a->groups; i++) {
        count = a->slot_count[i];
        weft_blob_u64(b, &count);
        a->slot_count[i] = count <= a->rows ? (uint32_t)count : UINT32_MAX;
    }
    for (i = 0; i < a->groups * a->rows; i++) weft_blob_double(b, &a->slots[i]);
}

WEFT_FN size_t subspace_blob_bytes(subspace *a) {
    weft_blob b;
    memset(&b, 0, sizeof b);
    b.at = WEFT_BLOB_HEAD;
    subspace_blob(a, &b);
    return b.at + WEFT_BLOB_TAIL;
}

SUBSPACE_API weft_status subspace_save_to(subspace *a, weft_write_fn write, void *ctx, size_t *bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    size_t g, k;
    weft_status s = subspace_enter(a, SUBSPACE_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    for (g = 0; g < a->groups; g++) /* what is not in use is zero */
        for (k = a->slot_count[g]; k < a->rows; k++) a->slots[g * a->rows + k] = 0.0;
    s = weft_blob_begin(&b, write, ctx, subspace_blob_bytes(a), subspace_blob_fingerprint(a), bytes, &why);
    if (s == WEFT_OK) {
        subspace_blob(a, &b);
        s = weft_blob_end(&b, 1, &why);
    }
    return s == WEFT_OK ? subspace_exit(a, s) : subspace_refuse(a, s, why.field, why.expected, why.got);
}

SUBSPACE_API weft_status subspace_save(subspace *a, void *buf, size_t capacity, size_t *bytes) {
    weft_blob_buffer m;
    m.to = (unsigned char *)buf;
    m.bytes = capacity;
    return subspace_save_to(a, buf ? weft_blob_to_buffer : NULL, &m, bytes);
}

/* A blob may have a valid checksum and still be hostile. */
WEFT_FN int subspace_blob_sane(const subspace *a) {
    size_t g, k;
    if ((a->settled & WEFT_ROUND_MASK) > a->round || a->round >= WEFT_ROUND_MASK ||
        !subspace_samples_fit(a->own_samples))
        return 0;
    for (g = 0; g < a->groups; g++) {
        if (a->slot_count[g] > a->rows) return 0;
        for (k = 0; k < a->slot_count[g]; k++)
            if (!weft_is_finite(a->slots[g * a->rows + k])) return 0;
    }
    return 1;
}

SUBSPACE_API weft_status subspace_load_from(subspace *a, weft_read_fn read, void *ctx, size_t bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    subspace_stats_t stats;
    double samples;
    int wanting;
    weft_status s = subspace_enter(a, SUBSPACE_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (!(subspace_state(a) & SUBSPACE_MAY_LOAD))
        return subspace_refuse(a, WEFT_ERR_ORDER, WEFT_TEXT("rounds"), 0, a->round);
    s = weft_blob_check(&b, read, ctx, bytes, subspace_blob_bytes(a), subspace_blob_fingerprint(a), &why);
    if (s == WEFT_OK) {
        samples = a->own_samples;
        stats = a->stats;
        wanting = a->wanting;
        subspace_blob(a, &b);
        a->averaged = a->settled;
        a->joined = a->settled != 0;
        s = weft_blob_end(&b, subspace_blob_sane(a), &why);
        if (s == WEFT_OK) return subspace_exit(a, WEFT_OK);
        subspace_begin_afresh(a);
        a->own_samples = samples;
        a->stats = stats;
        a->wanting = wanting;
    }
    return subspace_refuse(a, s, why.field, why.expected, why.got);
}

SUBSPACE_API weft_status subspace_load(subspace *a, const void *buf, size_t bytes) {
    weft_blob_buffer m;
    m.from = (const unsigned char *)buf;
    return subspace_load_from(a, buf ? weft_blob_from_buffer : NULL, &m, bytes);
}

/* ---- Reading ---- */

SUBSPACE_API void subspace_stats(const subspace *a, subspace_stats_t *out) {
    if (!a || !out) return;
    *out = a->stats;
    out->members = a->group.members;
    out->traffic = a->group.traffic;
}

SUBSPACE_API void subspace_effective(const subspace *a, subspace_desc *out) {
    if (a && out) *out = a->desc;
}

SUBSPACE_API const weft_detail *subspace_detail(const subspace *a) {
    return a ? &a->group.detail : NULL;
}

SUBSPACE_API uint32_t subspace_state(const subspace *a) {
    uint32_t may = 0;
    if (!a || a->magic != SUBSPACE_MAGIC || a->state >= SUBSPACE_LEFT) return 0;
    if (a->desc.transport) may = SUBSPACE_MAY_REGROUP;
    if (a->lost && !a->cut && !subspace_in_round(a)) may |= SUBSPACE_GRADIENTS_LOST;
    if (a->desc.transport && SUBSPACE_SUBMITTING >> a->state & 1u && (a->waiting || a->state == SUBSPACE_IDLE) &&
        a->then != SUBSPACE_THEN_LEAVE && (a->state != SUBSPACE_COPIED || a->then == SUBSPACE_THEN_ROUND))
        may |= SUBSPACE_MAY_SUBMIT;
    if (a->state != SUBSPACE_IDLE) return may | SUBSPACE_MAY_POLL;
    if (a->round == 0 && a->stats.rounds == 0 && !a->group.synced) may |= SUBSPACE_MAY_LOAD;
    return may | SUBSPACE_MAY_SAVE;
}

SUBSPACE_API uint32_t subspace_members(const subspace *a, uint32_t *ranks, uint32_t capacity) {
    uint32_t i;
    if (!a) return 0;
    for (i = 0; ranks && i < a->group.members && i < capacity; i++) ranks[i] = a->group.member[i];
    return a->group.members;
}

SUBSPACE_API uint32_t subspace_groups(const subspace *a) {
    return a ? (uint32_t)a->groups : 0;
}

SUBSPACE_API weft_status subspace_worker(const subspace *a, uint32_t rank, uint32_t group, subspace_worker_t *out) {
    size_t at;
    uint32_t i;
    if (!a || !out || rank >= a->rows || group >= a->groups || subspace_in_round(a)) return WEFT_ERR_ARGUMENT;
    at = group * a->rows + rank;
    for (i = 0; i < a->count && a->who[i] != rank; i++) continue;
    if (i == a->count || a->norm[at] != a->norm[at]) return WEFT_ERR_ARGUMENT;
    out->norm = a->norm[at];
    out->dot = a->total[(size_t)group * 2 * a->count + i];
    out->alpha = a->alpha[at];
    out->weight = a->weight[at];
    out->coefficient = a->coefficient[at];
    return WEFT_OK;
}

SUBSPACE_API double subspace_scale_of(const subspace *a, uint32_t group) {
    return a && group < a->groups ? a->scale[group] : (double)NAN;
}

SUBSPACE_API uint32_t subspace_slots(const subspace *a, uint32_t group, double *slots, uint32_t capacity) {
    uint32_t i;
    if (!a || group >= a->groups) return 0;
    for (i = 0; slots && i < a->slot_count[group] && i < capacity; i++) slots[i] = a->slots[group * a->rows + i];
    return a->slot_count[group];
}

SUBSPACE_API void subspace_close(subspace *a) {
    if (!a || a->magic != SUBSPACE_MAGIC || a->group.busy) return;
    weft_group_close(&a->group);
    a->state = SUBSPACE_CLOSED;
    a->magic = 0;
}
