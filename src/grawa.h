/* SPDX-License-Identifier: MIT
 * grawa.h: gradient-norm weighted averaging (MGRAWA, LGRAWA) for training processes of any framework, in plain C.
 *
 * Every worker trains its own copy of the model. Every now and then all workers form a weighted center of their models,
 * c = sum_m beta_m x_m, beta_m proportional to 1 / ||gradient of worker m||, and each pulls its model towards it,
 * x_m <- (1 - pull) x_m + pull c. Flat regions have small gradients, so the center leans towards flat minima.
 * T. Dimlioglu, A. Choromanska: "GRAWA: Gradient-based Weighted Averaging for Distributed Training of Deep Learning
 * Models", AISTATS 2024, arXiv 2403.04206; where the paper is silent, the authors' published code decides.
 *
 * ---- Quick start ----
 *
 *   #define GRAWA_IMPLEMENTATION            // in exactly one source file
 *   #include "grawa.h"
 *
 *   weft_tensor t[] = { {w1, n1, WEFT_F32}, {b1, n2, WEFT_F32} };    // your parameters, where they are
 *   weft_tensors params = {t, 2};                                   // gradients are described alike
 *   weft_transport net = weft_transport_make(&my_net, rank, size, my_send, my_recv, my_test, my_cancel, my_now);
 *
 *   grawa_desc d = {sizeof d};              // zero is the default everywhere
 *   d.params = params; d.transport = &net;
 *   d.weighting = GRAWA_BY_LAYER; d.period_steps = 32; d.pull = 0.5; d.timeout_ns = 60000000000u;
 *   size_t bytes = grawa_memory(&d, NULL);  // exact; a report names every buffer
 *   grawa *g; weft_status s = grawa_init(&g, &d, malloc(bytes), bytes);
 *   if (s < 0) return fail(weft_strerror(s), NULL);
 *
 *   for (;;) {
 *       train_one_step(model);              // forward, backward, optimiser: your own
 *       s = grawa_step(g, &grads);          // looks at the gradient; at the end of a period: exchanges and pulls
 *       if (s == WEFT_AGAIN) s = grawa_wait(g);  // or go on polling: grawa_poll(g) never blocks
 *       if (s < 0) return fail(weft_strerror(s), grawa_detail(g));
 *   }
 *   if ((s = grawa_leave(g)) == WEFT_AGAIN) s = grawa_wait(g);     // a loss may show here, too: see below
 *   grawa_close(g);
 *
 * The five callbacks are your network, or an adapter: their rules are "The transport contract", below; set net.wait,
 * too, if it can sleep. weft_transport_selftest tries yours. After WEFT_ERR_TIMEOUT one may wait again, as long again.
 *
 * (Where {sizeof d} draws a warning about missing initialisers: {0} in C, {} in C++, and d.struct_size = sizeof d.)
 *
 * ---- After a loss ----
 *
 * When a verb says WEFT_ERR_PEER_LOST, all that are left agree outside of this header on who that is, and each gives
 * the same view under the same, higher epoch:
 *
 *   do {
 *       weft_view view = {sizeof view, ++epoch, count, ranks};      // ascending, with your own; copied
 *       if ((s = grawa_regroup(g, &view)) == WEFT_AGAIN) s = grawa_wait(g);
 *   } while (s == WEFT_ERR_PEER_LOST);          // another one (grawa_detail(g)->peer): once more, without it, too
 *
 * WEFT_OK: train on. The step whose verb told of the loss has been counted, and is not to be told again; if all
 * abandoned its round, that is tried again at the next step. A leave that was under way has been carried to its end. An
 * average that was under way has come to nothing: call it again, it is then of those who are left. Who leaves tells
 * whoever makes the views before its process ends: it may never have noticed a loss, and a view that names it waits
 * for it.
 *
 * ---- The verbs ----
 *
 * Every verb does a bounded amount of work and returns: WEFT_OK (done), WEFT_AGAIN (in progress: call grawa_poll
 * until it says something else), WEFT_WANT_GRADIENT (see "where the norm comes from"), or an error (< 0;
 * grawa_detail names who and where). From WEFT_AGAIN until WEFT_OK the parameters are lent to the library: do not
 * write them; after an error in between they stay lent until grawa_regroup or grawa_close (not after
 * WEFT_ERR_NONFINITE, or WEFT_ERR_MISMATCH of grawa_average: there all workers agree that nothing came of it). A
 * round commits wholly or not at all: until it commits, the parameters are untouched. grawa_state tells which verbs
 * are legal now; a wrong one is WEFT_ERR_ORDER and changes nothing. One object belongs to one thread at a time. No
 * verb allocates, sleeps, prints or reads the environment.
 *
 * ---- Which verb when ----
 *
 *                             fresh    idle     probe    busy     lost     left
 *   grawa_start               y        y        -        -        -        -
 *   grawa_step                y        y        -        -        -        -
 *   grawa_probe               -        -        y        -        -        -
 *   grawa_poll                y        y        y        y        y        y
 *   grawa_wait                y        y        y        y        y        y
 *   grawa_average             y        y        -        -        -        -
 *   grawa_leave               y        y        -        -        -        -
 *   grawa_regroup             y        y        y        y        y        -
 *   grawa_peer_lost           y        y        y        y        y        -
 *   grawa_peer_up             y        y        y        y        y        -
 *   grawa_save                y        y        -        -        -        -
 *   grawa_save_to             y        y        -        -        -        -
 *   grawa_load                y        -        -        -        -        -
 *   grawa_load_from           y        -        -        -        -        -
 *   grawa_set_period          y        y        -        -        -        -
 *   grawa_set_pull            y        y        -        -        -        -
 *   grawa_set_proximal        y        y        -        -        -        -
 *   grawa_set_grad_scale      y        y        y        -        -        -
 *
 * fresh: nothing has been called, or setters only. idle: between steps and rounds. probe: grawa_step or grawa_poll has
 * returned WEFT_WANT_GRADIENT. busy: a verb has returned WEFT_AGAIN. lost: a worker is lost and the view is not
 * settled. left: grawa_leave is done. A dash is WEFT_ERR_ORDER and changes nothing; grawa_state tells the same in
 * bits. The readers (stats, effective, detail, weight, group, state) and grawa_close are legal in all; after close
 * nothing is.
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
 * WEFT_ERR_, all below 0; grawa_detail names peer, phase, field and both values.
 *
 *   ARGUMENT, ABI, MEMORY, OVERFLOW             a descriptor or an argument is wrong: detail.field names it, with what
 *                                               is expected and what was got; nothing has happened
 *   FLOAT_ENV, UNSUPPORTED                      of init: floats are not computed as they must be, or the setting does
 *                                               not exist here
 *   ORDER, REENTRY                              a dash of the table; a verb called from its own callback; nothing has
 *                                               happened
 *   PEER_LOST                                   a member is gone (detail.peer): grawa_regroup with the same new view
 *                                               on all that are left, then poll on
 *   PROTOCOL, TRUNCATED, CHECKSUM, TRANSPORT    a message made no sense, or a callback failed: every verb that
 *                                               communicates says so from now on, until grawa_regroup (without whoever
 *                                               it was), or grawa_close
 *   TIMEOUT                                     nothing has moved for timeout_ns: poll on, or tell of a loss
 *                                               (grawa_peer_lost)
 *   MISMATCH, VERSION                           a worker has other settings, or another version of this header: detail
 *                                               has both values; no number has been mixed. Mend it and begin anew
 *   NONFINITE                                   the round was rejected by all (`guard`), nothing was touched: train on
 *   CAPACITY                                    of save: detail.expected bytes are needed
 *   ARGUMENT, VERSION, CHECKSUM, MISMATCH       of load: no blob, a damaged one, or one of other settings; the object
 *                                               is as before
 *
 * ---- When a round happens ----
 *
 * GRAWA_TRIGGER_PERIOD (default): after period_steps local steps of this worker; all workers take equally many.
 * GRAWA_TRIGGER_TOTAL (the published rule): when all workers together have begun members x period_steps local steps.
 *   Fast workers take more steps than slow ones; nobody waits for longer than the step that the slowest worker is in.
 *   Everybody counts: at the beginning of each local step a worker tells its count to every peer, one 64-byte
 *   message each, and waits for no answer; counts are cumulative, so a late or merged message loses nothing, and the
 *   loss of any worker loses nothing but that worker's count. Counts begin with grawa_start; without it the first
 *   period is a step longer.
 *
 * ---- Where the norm comes from ----
 *
 * GRAWA_SOURCE_CLOSING (default): the gradient given to the grawa_step that closes the period, smoothed by an
 *   exponential moving average over rounds (ema_rounds, 0.9^8 as published). Costs one read of the gradient a round.
 * GRAWA_SOURCE_PROBE (published): a fresh mini-batch at the current model. grawa_step returns WEFT_WANT_GRADIENT;
 *   compute the gradient of such a batch (drawn from all data, no augmentation, no weight decay) and hand it to
 *   grawa_probe. Costs one more forward and backward pass a round, 1 / period_steps of the compute. The batch size
 *   must be the same on all workers.
 * GRAWA_SOURCE_STEPS: an exponential moving average over local steps (ema_steps, 0.85). Costs one read of the
 *   gradient a step; by model it restarts after each round, by layer it never does (as published, there marked
 *   experimental).
 *
 * ---- Extra memory ----
 *
 * One copy of the parameters (up to 64 bytes a tensor more, for alignment), in which the center is formed, and one more
 * if proximal > 0 (the anchor); for models of up to 8 KB a copy a worker instead of one; recursive doubling needs one
 * more. Besides, 49 bytes a group, 20 bytes a group and worker, and about 2 KB a worker for messages. grawa_memory
 * names every buffer.
 *
 * With P the bytes of the parameters (each tensor rounded up to 64), on 64-bit machines, without a pool, `proximal`
 * and groups: P + 2.3 KB N + 3 KB.
 *
 * ---- On the wire ----
 *
 * A round moves, per worker, 1 (by model) or `groups` (by layer) payload floats to each other worker, and one
 * all-reduce of the parameters: 2 (N-1)/N times their bytes (N-1 times for models of up to 8 KB, which take one step
 * instead of two, or of more where shards exceed a megabyte). Headers (64 bytes a message), the fingerprint and the
 * HAVE messages are counted apart (grawa_stats).
 *
 * ---- Instruction sets ----
 *
 * Kernels for SSE2, AVX2 and AVX-512 (x86), NEON (aarch64) and wasm simd128, chosen when the object is made by what the
 * machine has, with equal bits; no compiler flags are needed, and -march=native does no harm. `isa` forces one;
 * WEFT_NO_SIMD leaves all but plain C out. Every kernel stands in this file once: it includes itself for each set, by
 * the name grawa.h. If you rename it, define GRAWA_HEADER as its new name, with quotes, beside GRAWA_IMPLEMENTATION.
 *
 * ---- With your trainer ----
 *
 * learning rate     as for one worker with this batch; the pull is not scaled by it. Pick pull and period instead.
 * momentum, Adam    stay local and untouched: only parameters are pulled.
 * weight decay      goes into your own step; give grawa_step the gradient of the loss without it (either is
 *                   accepted, but all workers must do the same).
 * accumulation      call grawa_step once per optimiser step with the accumulated gradient; common factors cancel.
 * clipping          before or after: the norm is of what you hand over. Clip after, if norms should tell workers apart.
 * loss scaling      grawa_set_grad_scale(g, scale): the gradient handed over is scale times the true one.
 * a skipped step    (overflow in mixed precision) grawa_step(g, NULL): counts as a step; the moving average of the
 *                   rounds before stands in for the norm.
 * frozen, unused    give data = NULL for that tensor's gradient: it adds nothing to the model's norm. A layer
 *                   without any gradient gives this worker no say in that layer (weight 0), unless nobody has one
 *                   (then equal weights).
 * tied weights      list the tensor once; listing the same memory twice is refused.
 * BatchNorm         statistics stay local (published); name them in `buffers` and grawa_average averages them too.
 * schedules         grawa_set_pull: for the next round; grawa_set_period, grawa_set_proximal: from the next round on.
 *
 * ---- What is guaranteed when things fail ----
 *
 * Crash-stop faults. A lost worker shows as WEFT_ERR_PEER_LOST from the next verb that communicates; the host (or
 * its transport) then gives every survivor the same new view with a higher epoch, grawa_regroup, and polls: if any
 * survivor had committed the round, all commit it, else all abandon it, parameters untouched; weights are
 * renormalised over the survivors. A worker of the new view that was not in the last one takes over the center of
 * its first round. Slow is not dead: timeout_ns only reports that nothing moves. A non-finite gradient takes that
 * worker's say away for the round and never enters its moving average; a non-finite parameter never enters the center:
 * that worker is left out and the round formed again among the others (or rejected, by `guard`). A gradient norm of
 * zero is the limit of small norms: the workers with zero share the whole weight.
 *
 * ---- What is assumed of the host ----
 *
 * For each (peer, tag) the transport delivers exactly once, in order, and undamaged; a lost peer is an error or a call
 * of grawa_peer_lost, the same for all survivors sooner or later; a worker that is declared lost sends no more (or as
 * a newcomer). `now` does not go back. The memory given, tensor lists and transport stay where they are until
 * grawa_close. Float arithmetic is IEEE 754, rounding to nearest, without flushing (checked at init). All of it is
 * tested by weft_transport_selftest as far as a test can tell. Who is left after a loss is agreed on outside of this
 * header (by a launcher, a coordinator, or weft_members.h of the repository): grawa_regroup wants the same members
 * under the same epoch on all of them. It copies the view.
 *
 * ---- History ----
 *
 * 0.1.0 the first version. A minor version may change API, messages and blobs, a patch none of them; all workers of a
 * job run one version (CHANGELOG.md of the repository). */
#include "weft/base.h"
#include "weft/tensor.h"
#include "weft/kernels.h"
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

#ifndef GRAWA_API
#ifdef GRAWA_STATIC
#define GRAWA_API static WEFT_UNUSED
#elif defined __cplusplus
#define GRAWA_API extern "C"
#else
#define GRAWA_API extern
#endif
#endif

typedef struct grawa grawa;

/* How the weights beta are formed. */
typedef enum grawa_weighting {
    GRAWA_BY_MODEL = 0, /* MGRAWA: one weight a worker */
    GRAWA_BY_LAYER = 1, /* LGRAWA: one weight a worker and group of tensors */
    GRAWA_UNIFORM = 2   /* beta = 1 / members: the ablation that isolates the weighting; no gradient is looked at */
} grawa_weighting;

/* The norm of a group of tensors (by model: the whole model is one group), and the law of the weight. */
typedef enum grawa_norm {
    GRAWA_NORM_SUM = 0,       /* by model: sum of the tensors' Euclidean norms (published code); by layer: Euclidean */
    GRAWA_NORM_EUCLIDEAN = 1, /* Euclidean norm over all elements of the group */
    GRAWA_NORM_SQUARED = 2    /* Euclidean, and beta ~ 1 / norm^2 (a reading found in summaries of the paper) */
} grawa_norm;

typedef enum grawa_source { GRAWA_SOURCE_CLOSING = 0, GRAWA_SOURCE_PROBE = 1, GRAWA_SOURCE_STEPS = 2 } grawa_source;
typedef enum grawa_trigger { GRAWA_TRIGGER_PERIOD = 0, GRAWA_TRIGGER_TOTAL = 1 } grawa_trigger;

/* How the workers' initial parameters are settled at first contact. */
typedef enum grawa_initial {
    GRAWA_INITIAL_CHECK = 0,   /* hashes must agree, else WEFT_ERR_MISMATCH with both */
    GRAWA_INITIAL_COPY = 1,    /* everyone takes over those of initial_rank */
    GRAWA_INITIAL_AVERAGE = 2, /* everyone takes over the mean */
    GRAWA_INITIAL_KEEP = 3     /* everyone starts from its own */
} grawa_initial;

/* What a zero or non-finite norm, or a non-finite parameter, does to a round. */
typedef enum grawa_guard {
    GRAWA_GUARD_LIMIT = 0, /* zero norms share the weight; non-finite workers are left out; counted in the stats */
    GRAWA_GUARD_REJECT = 1 /* the round is abandoned by all: WEFT_ERR_NONFINITE, nothing touched; training may go on */
} grawa_guard;

/* Which model grawa_average forms. */
typedef enum grawa_model {
    GRAWA_MEAN = 0,  /* plain mean over the workers of the view (what the published code evaluates) */
    GRAWA_CENTER = 1 /* center of the present models under the weights of the last round */
} grawa_model;

/* Everything grawa_init wants to know. Fill struct_size, params and transport; zero is the default of every other
 * field. Pointers are to the host's memory: the descriptor itself, `view` and `group_of_tensor` are copied by
 * grawa_init; the tensor lists, transport and pool must outlive the object. Fields marked (F) are part of the
 * fingerprint: the same on all workers. */
typedef struct grawa_desc {
    size_t struct_size;              /* sizeof(grawa_desc) */
    weft_tensors params;             /* (F: shapes, types) parameters, in place */
    const weft_transport *transport; /* the host's network */
    const weft_pool *pool;           /* the host's threads; NULL: serial */
    weft_tensors buffers;            /* (F: shapes) BatchNorm statistics and the like: averaged by grawa_average only */
    const weft_view *view;           /* first members; NULL: all ranks, epoch 0 */
    uint32_t channel;          /* the same on all workers: 0 .. WEFT_CHANNELS-1; objects sharing a transport differ */
    weft_isa isa;              /* force an instruction set; grawa_effective tells which one is in use */
    grawa_weighting weighting; /* (F) */
    grawa_norm norm;           /* (F) */
    grawa_source source;       /* (F) */
    grawa_trigger trigger;     /* (F) */
    grawa_initial initial;     /* (F) */
    uint32_t initial_rank;     /* (F) for GRAWA_INITIAL_COPY */
    grawa_guard guard;         /* (F) */
    const uint32_t *group_of_tensor; /* (F) by layer: group of each tensor, 0 .. groups-1; NULL: each tensor its own */
    uint32_t groups;                 /* (F) number of groups; 0 with group_of_tensor NULL */
    uint32_t period_steps; /* tau, local steps; default 32; not compared between workers, nor are the next two */
    double pull;           /* lambda in [0, 1], once a round; default 0.5; WEFT_ZERO: no pull */
    double proximal;       /* p in [0, 1]: each local step pulls by p / period_steps to the last center; default off */
    double ema_rounds;     /* (F) mu in [0, 1); default 0.9^8; WEFT_ZERO: no smoothing */
    double ema_steps;      /* (F) in [0, 1); default 0.85, for GRAWA_SOURCE_STEPS; WEFT_ZERO: no smoothing */
    weft_algorithm algorithm; /* (F) of the all-reduce; default by size, with equal bits */
    /* (F) 1: use the transport's own all_reduce while all its ranks take part: the bits are those that it promises */
    int host_collectives;
    int check_replicas;  /* (F) 1: compare a hash of the center every round: WEFT_ERR_MISMATCH names both */
    uint64_t timeout_ns; /* no progress for so long in a round: WEFT_ERR_TIMEOUT, polling may go on; 0: never */
    /* (F: on or off) Extension, not in the paper: the lowest rank of the view, once it has arrived in a round, waits
     * so long for the others, then the round goes on without those that are late; they join the next one. 0: wait
     * for all. */
    uint64_t partial_deadline_ns;
    weft_trace_fn trace; /* may be NULL */
    void *trace_ctx;
#ifdef WEFT_CUDA
    const weft_cuda *cuda; /* NULL: tensors are host memory; else they, and what verbs are given, are device memory */
#endif
} grawa_desc;

/* Counters since grawa_init (or as loaded). */
typedef struct grawa_stats_t {
    uint64_t steps;            /* local steps */
    uint64_t rounds;           /* rounds committed here */
    uint64_t rounds_abandoned; /* by regroup or guard; parameters untouched */
    uint64_t rounds_missed;    /* partial rounds that went on without this worker */
    uint64_t members;          /* workers in the view now */
    uint64_t participants;     /* workers whose models entered the last center */
    uint64_t zero_norms;       /* groups and rounds in which the limit rule decided */
    uint64_t nonfinite_norms;  /* (worker, group, round) without a usable norm: non-finite, or no gradient */
    uint64_t nonfinite_models; /* workers left out of a round for a non-finite parameter */
    weft_traffic traffic;      /* bytes and messages of this worker */
} grawa_stats_t;

/* This worker's norms of one group, as of the last round it took part in. */
typedef struct grawa_group_t {
    double norm;      /* n: of the last gradient looked at; NaN if there was no usable one */
    double ema;       /* e: the moving average */
    double corrected; /* h = e / (1 - mu^k): what the weights are made of; NaN: none yet */
} grawa_group_t;

/* Bits of grawa_state: which verbs are legal now. close, stats, detail and the like always are. */
enum {
    GRAWA_MAY_STEP = 1,    /* grawa_start, grawa_step, grawa_average, grawa_save, grawa_leave, setters */
    GRAWA_MAY_POLL = 2,    /* something is in progress (grawa_poll and grawa_wait are legal at any time) */
    GRAWA_MAY_PROBE = 4,   /* grawa_probe: a probe gradient is wanted */
    GRAWA_MAY_LOAD = 8,    /* grawa_load: after init, before anything else */
    GRAWA_MAY_REGROUP = 16 /* grawa_regroup */
};

/* Bytes that grawa_init needs for this descriptor; 0 if the descriptor is refused (report->detail says why).
 * `report`, if not NULL, is overwritten with every buffer by name. */
#define grawa_memory(desc, report) grawa_memory_abi((desc), (report), sizeof(grawa_desc), WEFT_ABI)
GRAWA_API size_t grawa_memory_abi(const grawa_desc *desc, weft_memory_report *report, size_t desc_size, uint32_t abi);

/* Makes *out inside `memory` (the caller's, any alignment, at least grawa_memory bytes; it must stay until
 * grawa_close). Sends nothing. Errors: ARGUMENT, ABI, MEMORY, OVERFLOW, FLOAT_ENV; *out is then NULL and *detail, if
 * not NULL, says why. */
#define grawa_init(out, desc, memory, bytes)                                                                           \
    grawa_init_abi((out), (desc), (memory), (bytes), NULL, sizeof(grawa_desc), WEFT_ABI)
#define grawa_init_detail(out, desc, memory, bytes, detail)                                                            \
    grawa_init_abi((out), (desc), (memory), (bytes), (detail), sizeof(grawa_desc), WEFT_ABI)
GRAWA_API weft_status grawa_init_abi(grawa **out, const grawa_desc *desc, void *memory, size_t bytes,
                                     weft_detail *detail, size_t desc_size, uint32_t abi);

/* First contact: compares fingerprints and settles the initial parameters, before the first local step. Optional:
 * without it the first grawa_step does the same, after the first local step. The initial parameters are those at the
 * time of grawa_start; without it, those at the time of grawa_init. */
GRAWA_API weft_status grawa_start(grawa *g);

/* One local step is done: `grads` is its gradient (of the parameters' shapes; may be of another dtype), or NULL if
 * the step was skipped. Applies the proximal pull; at the end of a period begins a round. The gradient is read
 * during the call only. */
GRAWA_API weft_status grawa_step(grawa *g, const weft_tensors *grads);

/* The probe gradient asked for by WEFT_WANT_GRADIENT, at the current parameters; read during the call only. NULL:
 * none to be had. */
GRAWA_API weft_status grawa_probe(grawa *g, const weft_tensors *grads);

/* Goes on with whatever is in progress. Never blocks. WEFT_OK: nothing is (any more), the parameters are the host's
 * again. */
GRAWA_API weft_status grawa_poll(grawa *g);

/* Polls until something other than WEFT_AGAIN comes, sleeping in the transport's `wait` where there is one. Bounded
 * by timeout_ns. */
GRAWA_API weft_status grawa_wait(grawa *g);

/* Collective, after the same round on every worker: forms the model to evaluate or save, of the workers' present
 * models, in `into` (shapes of params; NULL: this worker does not want it) and the mean of the buffers in
 * `into_buffers` (or NULL). The workers' own models are not touched. `into` stays lent until WEFT_OK.
 * With partial rounds a worker may not know that it missed one: then only between a regroup and the next round, else
 * WEFT_ERR_UNSUPPORTED. */
GRAWA_API weft_status grawa_average(grawa *g, grawa_model model, const weft_tensors *into,
                                    const weft_tensors *into_buffers);

/* Says good-bye after the last step (out of data, say): the others go on without this worker. Poll until WEFT_OK,
 * then close. Views given from then on leave out whoever has left; one that was on its way to it (regroup is then
 * ORDER) wants another one after it. A loss may show here, too, and wants a regroup before the good-bye is complete;
 * not that of a worker that has been told good-bye. */
GRAWA_API weft_status grawa_leave(grawa *g);

/* The host has learnt that `rank` is gone, or that its link is usable again (after its loss has shown or has been
 * reported: say grawa_peer_lost first if in doubt). Legal at any time; communicates nothing.
 * After the loss of a member verbs that communicate return WEFT_ERR_PEER_LOST until grawa_regroup. */
GRAWA_API weft_status grawa_peer_lost(grawa *g, uint32_t rank);
GRAWA_API weft_status grawa_peer_up(grawa *g, uint32_t rank);

/* The new view, the same on all its members, with a higher epoch than any before. Settles what becomes of a round in
 * progress; poll until WEFT_OK, then go on training. A worker that comes (back) is given the view by regroup right
 * after init. */
GRAWA_API weft_status grawa_regroup(grawa *g, const weft_view *view);

/* Everything of this object that shapes the trajectory, as one blob (versioned, checksummed, endian-neutral). *bytes
 * is set to the length; with buf NULL only that. The parameters and the optimiser are the host's to save. Load: into
 * a fresh object of the same descriptor, rank and number of workers; all workers load the blobs of the same moment
 * (after a loss, under a `view` of those that are left). The schedules are the blob's from then on; if the run had
 * begun, `initial` is over. Put the parameters back before the next verb. Hostile blobs give an error, the object is
 * then as before. */
GRAWA_API weft_status grawa_save(grawa *g, void *buf, size_t capacity, size_t *bytes);
GRAWA_API weft_status grawa_load(grawa *g, const void *buf, size_t bytes);
/* The same through callbacks (state.h), for blobs that no memory has room for. `write` NULL: only the length. */
GRAWA_API weft_status grawa_save_to(grawa *g, weft_write_fn write, void *ctx, size_t *bytes);
GRAWA_API weft_status grawa_load_from(grawa *g, weft_read_fn read, void *ctx, size_t bytes);

/* Schedules, between steps. pull: for the next round. period and proximal: from the next round on, the period under way
 * keeps its own. grad_scale: from the next gradient on. Part of the saved blob, not of the fingerprint. Here 0 means 0.
 * ARGUMENT if out of range. proximal cannot be turned on if it was off at init (UNSUPPORTED: no memory). */
GRAWA_API weft_status grawa_set_period(grawa *g, uint32_t period_steps);
GRAWA_API weft_status grawa_set_pull(grawa *g, double pull);
GRAWA_API weft_status grawa_set_proximal(grawa *g, double proximal);
GRAWA_API weft_status grawa_set_grad_scale(grawa *g, double scale);

/* Reading. The descriptor comes back with defaults filled in and the setters' values, once they are in effect. It is
 * for reading, not for another init: 0 means 0 here. */
GRAWA_API void grawa_stats(const grawa *g, grawa_stats_t *out);
GRAWA_API void grawa_effective(const grawa *g, grawa_desc *out);
GRAWA_API const weft_detail *grawa_detail(const grawa *g); /* never NULL, but for g == NULL */
/* How many workers are in the view now (whoever has left is not); their ranks, ascending, as far as `capacity` goes. */
GRAWA_API uint32_t grawa_members(const grawa *g, uint32_t *ranks, uint32_t capacity);
GRAWA_API uint32_t grawa_state(const grawa *g);
GRAWA_API uint32_t grawa_groups(const grawa *g);                                       /* weights a worker has */
GRAWA_API double grawa_weight(const grawa *g, uint32_t rank, uint32_t group);          /* beta of the last round */
GRAWA_API weft_status grawa_group(const grawa *g, uint32_t group, grawa_group_t *out); /* this worker's norms */

/* Cancels every message under way. Afterwards the memory is the host's again and no verb is legal. Needs nobody's
 * cooperation. What is still in the network must not meet a later object: use the channel again only after a barrier of
 * your own behind every worker's close, and with a first view of a higher epoch; or take another channel. */
GRAWA_API void grawa_close(grawa *g);
/*==== IMPLEMENTATION ====*/

/* States. "In a round" is everything from GRAWA_PROBING to GRAWA_HAVE. */
enum {
    GRAWA_IDLE = 0,
    GRAWA_SYNC,   /* agreeing on a view */
    GRAWA_SETTLE, /* settling the initial parameters: round 1, if they are copied or averaged */
    GRAWA_SETTLE_HAVE,
    GRAWA_PROBING,      /* waiting for the host's probe gradient */
    GRAWA_READY,        /* partial rounds: arrived, waiting to hear who takes part */
    GRAWA_NORMS,        /* gathering the norms */
    GRAWA_REDUCE,       /* forming the center */
    GRAWA_HAVE,         /* everyone tells that it holds the center */
    GRAWA_AVERAGE_MEET, /* grawa_average: everyone is here, and under the same weights */
    GRAWA_AVERAGE,
    GRAWA_AVERAGE_BUFFERS,
    GRAWA_LEAVING,
    GRAWA_LEFT,
    GRAWA_CLOSED
};

/* What is to be done once the view is agreed. */
enum { GRAWA_THEN_IDLE = 0, GRAWA_THEN_STEP, GRAWA_THEN_AVERAGE, GRAWA_THEN_LEAVE };

enum { GRAWA_STEP_AVERAGE = WEFT_STEP_HAVE + 1 }; /* exchanges of grawa_average after a round's own */
/* What a worker says of itself when a view is agreed: never in a round; in one, which the view cut short. */
enum { GRAWA_SYNC_FRESH = 1, GRAWA_SYNC_CUT = 2 };
#define GRAWA_MAGIC 0x67726177u /* "graw" */

struct grawa {
    uint32_t magic;
    grawa_desc desc; /* effective */
    weft_group group;
    weft_sync sync;
    weft_reduce reduce;  /* of the parameters */
    weft_reduce buffers; /* of the buffers */
    const weft_kernels *kernels;
#ifdef WEFT_CUDA
    weft_gpu gpu;
#endif
    int joined;           /* has been in an agreed view */
    int state, then, cut; /* cut: a new view has cut a round short */
    /* progress */
    uint64_t round;     /* the last one that is over for this worker */
    uint64_t settled;   /* id of the last one that was committed or rejected here: what a regroup may count on */
    uint64_t have;      /* id of the one whose result is here, not yet committed, or 0 */
    uint32_t in_period; /* local steps */
    uint64_t restart;   /* the average over steps begins anew with the next step */
    uint64_t averages;  /* since the last round */
    uint32_t attempt;   /* of forming the center in this round */
    grawa_stats_t stats;
    double grad_scale;
    uint32_t next_period; /* effective at the next round */
    double next_proximal;
    /* norms and weights; arrays of `groups` */
    size_t groups;
    uint32_t *group_of; /* NULL: one group */
    double *norm, *ema, *decay, *new_ema, *new_decay, *squares;
    int skipped;                     /* the last look was at no gradient at all: a skipped step */
    unsigned char *seen;             /* of a look at a gradient: a tensor of the group has one; 2: it is not finite */
    float *wire;                     /* corrected norms, a row a rank: NaN: none, infinite: not finite */
    double *beta;                    /* a row a rank */
    double *share;                   /* the same, of the round or average under way */
    uint64_t beta_round;             /* the round that the weights are of */
    unsigned char *fresh, *excluded; /* a rank: joined since the last round; left out of this one for its parameters */
    /* the last center */
    unsigned char *anchor_memory, *anchor; /* anchor: flat, inside anchor_memory; NULL without proximal pull */
    uint64_t initial_hash, center_hash; /* of the parameters at the start; of the center under way, if it is checked */
    /* total trigger */
    uint64_t *begun;          /* a rank: local steps begun in this period, as far as known */
    unsigned char *count_due; /* a rank: has not been told this worker's count */
    /* partial rounds */
    uint64_t *ready;       /* a rank: the round it has arrived in */
    unsigned char *go_due; /* a rank: has not been told who takes part */
    uint32_t ready_told;   /* the rank that knows that this worker has arrived, or WEFT_NO_RANK */
    uint64_t ready_since_ns;
    int ready_timing;
    uint64_t go_round;
    unsigned char go[WEFT_INLINE_BYTES]; /* bit a rank: takes part in go_round */
    uint32_t *who, count;                /* participants of this round, ascending ranks */
    /* grawa_average */
    grawa_model model;
    weft_tensors into, into_buffers; /* tensor NULL: not wanted */
};

/* ---- Descriptor ---- */

WEFT_FN WEFT_NOINLINE weft_status grawa_range(double v, double low, double high, int high_open, const char *field,
                                              weft_detail *d) {
    if (v >= low && (high_open ? v < high : v <= high)) return WEFT_OK; /* false for NaN */
    return weft_refuse(d, WEFT_ERR_ARGUMENT, field, weft_double_bits(high), weft_double_bits(v));
}

/* A field where zero is the default and WEFT_ZERO is zero. */
WEFT_FN double grawa_default(double v, double otherwise) {
    if (v == 0.0) return otherwise;
    return v == (double)WEFT_ZERO ? 0.0 : v;
}

WEFT_FN weft_status grawa_enum(uint64_t v, uint64_t most, const char *field, weft_detail *d) {
    return v <= most ? WEFT_OK : weft_refuse(d, WEFT_ERR_ARGUMENT, field, most, v);
}

/* Checks everything, and fills in the defaults. */
WEFT_FN weft_status grawa_check(const grawa_desc *in, size_t desc_size, uint32_t abi, grawa_desc *out, weft_detail *d) {
    weft_status s;
    size_t i;
    if (!in) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc"), 1, 0);
    if (abi != WEFT_ABI) return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("header version"), WEFT_ABI, abi);
    if (desc_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("sizeof(grawa_desc)"), sizeof *in, desc_size);
    if (in->struct_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("desc.struct_size"), sizeof *in, in->struct_size);
    *out = *in;
    if ((s = weft_transport_check(in->transport, d)) != WEFT_OK) return s;
    if ((s = weft_tensors_check(&in->params, 0, d)) != WEFT_OK) return s;
    if ((s = weft_tensors_check(&in->buffers, 0, d)) != WEFT_OK) return s;
    if ((s = WEFT_GPU_CHECK(in, d)) != WEFT_OK) return s;
    if (in->view && (s = weft_view_check(in->view, in->transport, d)) != WEFT_OK) return s;
    if (in->channel >= WEFT_CHANNELS)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.channel"), WEFT_CHANNELS - 1, in->channel);
    if (!weft_kernels_select(in->isa, 0))
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.isa"), 0, (uint64_t)in->isa);
    if ((s = grawa_enum((uint64_t)in->weighting, GRAWA_UNIFORM, WEFT_TEXT("desc.weighting"), d)) != WEFT_OK ||
        (s = grawa_enum((uint64_t)in->norm, GRAWA_NORM_SQUARED, WEFT_TEXT("desc.norm"), d)) != WEFT_OK ||
        (s = grawa_enum((uint64_t)in->source, GRAWA_SOURCE_STEPS, WEFT_TEXT("desc.source"), d)) != WEFT_OK ||
        (s = grawa_enum((uint64_t)in->trigger, GRAWA_TRIGGER_TOTAL, WEFT_TEXT("desc.trigger"), d)) != WEFT_OK ||
        (s = grawa_enum((uint64_t)in->initial, GRAWA_INITIAL_KEEP, WEFT_TEXT("desc.initial"), d)) != WEFT_OK ||
        (s = grawa_enum((uint64_t)in->guard, GRAWA_GUARD_REJECT, WEFT_TEXT("desc.guard"), d)) != WEFT_OK ||
        (s = grawa_enum((uint64_t)in->algorithm, WEFT_ALGORITHM_DOUBLING, WEFT_TEXT("desc.algorithm"), d)) != WEFT_OK ||
        (s = grawa_enum(in->initial_rank, in->transport->size - 1, WEFT_TEXT("desc.initial_rank"), d)) != WEFT_OK)
        return s;
    out->isa = weft_isa_resolve(in->isa);
    out->period_steps = in->period_steps ? in->period_steps : 32;
    out->pull = grawa_default(in->pull, 0.5);
    out->proximal = in->proximal == (double)WEFT_ZERO ? 0.0 : in->proximal;
    out->ema_rounds = grawa_default(in->ema_rounds, 0.43046721); /* 0.9^8, section 2 of the published algorithm */
    out->ema_steps = grawa_default(in->ema_steps, 0.85);
    if ((s = grawa_range(out->pull, 0, 1, 0, WEFT_TEXT("desc.pull"), d)) != WEFT_OK ||
        (s = grawa_range(out->proximal, 0, 1, 0, WEFT_TEXT("desc.proximal"), d)) != WEFT_OK ||
        (s = grawa_range(out->ema_rounds, 0, 1, 1, WEFT_TEXT("desc.ema_rounds"), d)) != WEFT_OK ||
        (s = grawa_range(out->ema_steps, 0, 1, 1, WEFT_TEXT("desc.ema_steps"), d)) != WEFT_OK)
        return s;
    if (in->weighting == GRAWA_BY_LAYER && !in->group_of_tensor) {
        if (in->groups)
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.groups (without group_of_tensor)"), 0, in->groups);
        if (in->params.count >= UINT32_MAX)
            return weft_refuse(d, WEFT_ERR_OVERFLOW, WEFT_TEXT("params.count"), UINT32_MAX - 1, in->params.count);
        out->groups = (uint32_t)in->params.count;
    } else if (in->weighting != GRAWA_BY_LAYER) {
        if (in->group_of_tensor || in->groups)
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.groups (only by layer)"), 0, in->groups);
        out->groups = 1;
    } else {
        for (i = 0; i < in->params.count; i++)
            if (in->group_of_tensor[i] >= in->groups)
                return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.group_of_tensor"), in->groups,
                                   in->group_of_tensor[i]);
    }
    if ((in->timeout_ns || in->partial_deadline_ns) && !in->transport->now)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.now (for a deadline)"), 1, 0);
    if (in->partial_deadline_ns && in->transport->size > WEFT_INLINE_BYTES * 8)
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("transport.size (partial rounds)"), WEFT_INLINE_BYTES * 8,
                           in->transport->size);
    if (in->host_collectives && !in->transport->all_reduce)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.all_reduce (for host_collectives)"), 1, 0);
    return WEFT_OK;
}

/* ---- Memory ---- */

WEFT_FN grawa *grawa_lay_out(weft_layout *l, const grawa_desc *d, grawa *tmp) {
    uint32_t size = d->transport->size;
    grawa *made = (grawa *)weft_layout_take(l, WEFT_TEXT("grawa"), 1, sizeof(grawa));
    grawa *g = made ? made : tmp;
    size_t rows = 0, shares = 0, bytes;
    int ok = 1;
    memset(g, 0, sizeof *g);
    weft_group_layout(l, size, &g->group.peer, &g->group.member);
    weft_sync_layout(l, size, &g->sync.all);
    weft_reduce_layout(l, &g->reduce, &d->params, size, d->algorithm);
    weft_reduce_layout(l, &g->buffers, &d->buffers, size, WEFT_ALGORITHM_AUTO);
    g->groups = d->groups;
    if (!weft_mul_size(size, d->groups, &rows) || !weft_add_size(rows, rows > size ? rows : size, &shares))
        l->overflow = 1;
    g->norm = (double *)weft_layout_take(l, WEFT_TEXT("norms and moving averages"), d->groups, 6 * sizeof(double));
    g->seen = (unsigned char *)weft_layout_take(l, WEFT_TEXT("marks of a look at a gradient"), d->groups, 1);
    g->wire = (float *)weft_layout_take(l, WEFT_TEXT("norms of all workers"), rows, sizeof(float));
    g->beta = (double *)weft_layout_take(l, WEFT_TEXT("weights of all workers"), shares, sizeof(double));
    g->group_of = (uint32_t *)weft_layout_take(l, WEFT_TEXT("group of each tensor"),
                                               d->weighting == GRAWA_BY_LAYER ? d->params.count : 0, sizeof(uint32_t));
    g->fresh = (unsigned char *)weft_layout_take(l, WEFT_TEXT("marks, of each worker"), size, 4);
    g->begun =
        (uint64_t *)weft_layout_take(l, WEFT_TEXT("counts and arrivals of each worker"), size, 2 * sizeof(uint64_t));
    g->who = (uint32_t *)weft_layout_take(l, WEFT_TEXT("participants of the round"), size, sizeof(uint32_t));
    bytes = weft_mirror_bytes(g->reduce.algorithm, weft_map_measure(&d->params, &ok), size, &ok);
    g->anchor_memory =
        (unsigned char *)weft_layout_data(l, WEFT_TEXT("anchor (proximal pull)"), d->proximal > 0 ? bytes : 0, 1);
    WEFT_GPU_LAYOUT(l, &g->gpu, &d->params, &d->buffers, size);
    if (!ok) l->overflow = 1;
    return made;
}

GRAWA_API size_t grawa_memory_abi(const grawa_desc *desc, weft_memory_report *report, size_t desc_size, uint32_t abi) {
    weft_layout l;
    weft_detail detail = weft_detail_none();
    grawa_desc d;
    grawa tmp;
    size_t total = 0;
    memset(&l, 0, sizeof l);
    if (report) memset(report, 0, sizeof *report);
    l.report = report;
    if (grawa_check(desc, desc_size, abi, &d, &detail) == WEFT_OK) {
        WEFT_GPU_LEND(&l, &d);
        grawa_lay_out(&l, &d, &tmp);
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

WEFT_FN const char *const *grawa_field_names(void) {
    static const char *const names[] = {"algorithm",
                                        "version",
                                        "params.count",
                                        "params (elements)",
                                        "params (shapes and types)",
                                        "buffers (shapes and types)",
                                        "weighting",
                                        "norm",
                                        "source",
                                        "trigger",
                                        "initial",
                                        "guard",
                                        "groups",
                                        "group_of_tensor",
                                        "ema_rounds",
                                        "ema_steps",
                                        "algorithm of the sum",
                                        "host_collectives",
                                        "check_replicas",
                                        "partial_deadline_ns (on or off)",
                                        NULL};
    return names;
}

WEFT_FN void grawa_fingerprint(grawa *g) {
    const grawa_desc *d = &g->desc;
    uint64_t h = 0;
    size_t i;
    uint64_t *f = g->sync.mine;
    for (i = 0; g->desc.weighting == GRAWA_BY_LAYER && i < d->params.count; i++)
        h = (h ^ g->group_of[i]) * 0x9E3779B97F4A7C15u + (h >> 31);
    g->sync.name = grawa_field_names();
    f[0] = GRAWA_MAGIC;
    f[1] = WEFT_VERSION;
    f[2] = d->params.count;
    f[3] = weft_tensors_elements(&d->params);
    f[4] = weft_shape_hash(&d->params);
    f[5] = weft_shape_hash(&d->buffers);
    f[6] = (uint64_t)d->weighting;
    f[7] = (uint64_t)d->norm;
    f[8] = (uint64_t)d->source;
    f[9] = (uint64_t)d->trigger;
    f[10] = (uint64_t)d->initial | (uint64_t)d->initial_rank << 8;
    f[11] = (uint64_t)d->guard;
    f[12] = d->groups;
    f[13] = h;
    f[14] = weft_double_bits(d->ema_rounds);
    f[15] = weft_double_bits(d->ema_steps);
    f[16] = (uint64_t)g->reduce.algorithm;
    f[17] = d->host_collectives != 0;
    f[18] = d->check_replicas != 0;
    f[19] = d->partial_deadline_ns != 0;
}

WEFT_FN uint64_t grawa_blob_fingerprint(const grawa *g) {
    uint64_t h = 0x9E3779B97F4A7C15u + g->group.net->rank;
    int i;
    for (i = 0; i < WEFT_SYNC_COMMITTED; i++) {
        h = (h ^ g->sync.mine[i]) * 0xBF58476D1CE4E5B9u;
        h ^= h >> 29;
    }
    return (h ^ g->group.net->size) * 0x94D049BB133111EBu;
}

/* Everything that training changes, as at the beginning. */
WEFT_FN void grawa_begin_afresh(grawa *g) {
    size_t i;
    g->joined = 0;
    g->state = GRAWA_IDLE;
    g->then = GRAWA_THEN_IDLE;
    g->round = g->settled = g->have = g->restart = g->averages = g->beta_round = 0;
    g->in_period = 0;
    memset(&g->stats, 0, sizeof g->stats);
    g->grad_scale = 1.0;
    for (i = 0; i < g->groups; i++) {
        g->norm[i] = (double)NAN;
        g->ema[i] = g->new_ema[i] = 0.0;
        g->decay[i] = g->new_decay[i] = 1.0;
    }
    memset(g->beta, 0, g->group.net->size * g->groups * sizeof *g->beta);
    memset(g->fresh, 0, (size_t)g->group.net->size * 4);
    memset(g->begun, 0, (size_t)g->group.net->size * 2 * sizeof(uint64_t));
    g->anchor = NULL;
    g->ready_told = WEFT_NO_RANK;
}

/* The anchor before the first round: the initial parameters. */
WEFT_FN void grawa_anchor_here(grawa *g) {
    size_t i;
    if (!g->anchor_memory || !(g->desc.proximal > 0)) return;
    g->anchor = g->anchor_memory;
    for (i = 0; i < g->desc.params.count; i++) {
        const weft_tensor *t = &g->desc.params.tensor[i];
        if (t->count)
            weft_data_copy(WEFT_GPU_IN(g->reduce.map), g->anchor + g->reduce.map.position[i], t->data,
                           t->count * weft_dtype_bytes(t->dtype));
    }
}

/* The parameters that training starts from. */
WEFT_FN void grawa_look_at_start(grawa *g) {
    g->initial_hash = weft_tensors_hash(g->kernels, g->desc.pool, &g->desc.params, NULL, NULL);
    grawa_anchor_here(g);
}

WEFT_FN weft_status grawa_on_control(void *owner, uint32_t from, const weft_header *h, const unsigned char *payload);

GRAWA_API weft_status grawa_init_abi(grawa **out, const grawa_desc *desc, void *memory, size_t bytes,
                                     weft_detail *detail, size_t desc_size, uint32_t abi) {
    weft_detail why = weft_detail_none();
    weft_detail *say = detail ? detail : &why;
    weft_layout l;
    grawa_desc d;
    grawa *g;
    size_t need, i;
    weft_status s;
    *say = why;
    if (!out) return weft_refuse(say, WEFT_ERR_ARGUMENT, WEFT_TEXT("out"), 1, 0);
    *out = NULL;
    if ((s = grawa_check(desc, desc_size, abi, &d, say)) != WEFT_OK) return s;
    need = grawa_memory_abi(desc, NULL, desc_size, abi);
    if (!need) return weft_refuse(say, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    if (!memory || bytes < need) return weft_refuse(say, WEFT_ERR_MEMORY, WEFT_TEXT("bytes"), need, memory ? bytes : 0);
    if ((s = weft_float_probe(say)) != WEFT_OK) return s;
    memset(&l, 0, sizeof l);
    l.base = weft_align_memory(memory);
    WEFT_GPU_LEND(&l, &d);
    g = grawa_lay_out(&l, &d, NULL);
    g->magic = GRAWA_MAGIC;
    g->desc = d;
    g->desc.view = NULL;
    g->ema = g->norm + g->groups;
    g->decay = g->ema + g->groups;
    g->new_ema = g->decay + g->groups;
    g->new_decay = g->new_ema + g->groups;
    g->squares = g->new_decay + g->groups;
    g->excluded = g->fresh + d.transport->size;
    g->count_due = g->excluded + d.transport->size;
    g->go_due = g->count_due + d.transport->size;
    g->ready = g->begun + d.transport->size;
    g->share = g->beta + d.transport->size * g->groups;
    if (d.weighting == GRAWA_BY_LAYER)
        for (i = 0; i < d.params.count; i++) g->group_of[i] = d.group_of_tensor ? d.group_of_tensor[i] : (uint32_t)i;
    else
        g->group_of = NULL;
    g->desc.group_of_tensor = g->group_of;
    if (!(d.proximal > 0)) g->anchor_memory = NULL;
    weft_group_start(&g->group, d.transport, d.channel, desc->view, d.timeout_ns, d.trace, d.trace_ctx);
    g->group.on_control = grawa_on_control;
    g->group.owner = g;
    g->reduce.g = g->buffers.g = &g->group;
    g->reduce.pool = g->buffers.pool = d.pool;
    g->reduce.host = d.host_collectives;
    g->reduce.groups = g->groups;
    g->reduce.group_of = g->group_of;
    g->buffers.groups = 1;
    weft_map_init(&g->reduce.map, &g->desc.params, g->reduce.map.position);
    weft_map_init(&g->buffers.map, &g->desc.buffers, g->buffers.map.position);
    g->kernels = weft_kernels_select(d.isa, weft_map_bytes(&g->reduce.map));
    s = WEFT_GPU_INIT(&g->gpu, &d, &l, &g->kernels, say);
    if (s != WEFT_OK) return s;
    WEFT_GPU_USE(g->group, &d, &g->gpu);
    WEFT_GPU_USE(g->reduce.map, &d, &g->gpu);
    WEFT_GPU_USE(g->buffers.map, &d, &g->gpu);
    g->reduce.kernels = g->buffers.kernels = g->kernels;
    grawa_fingerprint(g);
    grawa_begin_afresh(g);
    g->next_period = d.period_steps;
    g->next_proximal = d.proximal;
    grawa_look_at_start(g);
    if ((s = WEFT_GPU_BREAKS_GROUP(&g->group)) < 0)
        return weft_refuse(say, s, WEFT_TEXT("cuda"), 0, g->group.detail.got);
    *out = g;
    return WEFT_OK;
}

/* ---- Norms ---- */

/* Norms of a gradient by group into g->norm: NaN where there is none, infinite where it is not finite. */
WEFT_FN void grawa_look(grawa *g, const weft_tensors *grads) {
    size_t i, k;
    double scale = g->grad_scale < 0 ? -g->grad_scale : g->grad_scale;
    g->skipped = !grads;
    for (k = 0; k < g->groups; k++) {
        g->squares[k] = 0.0;
        g->seen[k] = 0;
    }
    for (i = 0; grads && i < grads->count; i++) {
        const weft_tensor *t = &grads->tensor[i];
        double square;
        k = g->group_of ? g->group_of[i] : 0;
        if (!t->data) continue;
        square = weft_run_sqnorm(g->kernels, g->desc.pool, t->dtype, t->count, t->data);
        if (!weft_is_finite(square))
            g->seen[k] = 2;
        else if (!g->seen[k])
            g->seen[k] = 1;
        /* by model the published code adds the tensors' norms, not their squares */
        g->squares[k] += g->desc.norm == GRAWA_NORM_SUM && !g->group_of ? sqrt(square) : square;
    }
    for (k = 0; k < g->groups; k++) {
        double n = g->desc.norm == GRAWA_NORM_SUM && !g->group_of ? g->squares[k] : sqrt(g->squares[k]);
        n /= scale;
        if (g->seen[k] == 2 || (g->seen[k] == 1 && !weft_is_finite(n))) n = (double)INFINITY;
        g->norm[k] = g->seen[k] ? n : (double)NAN;
    }
}

/* e <- mu e + (1 - mu) n where there is a norm to take in; decay = mu^k. */
WEFT_FN void grawa_smooth(const grawa *g, double mu, double *ema, double *decay) {
    size_t k;
    for (k = 0; k < g->groups; k++) {
        if (!weft_is_finite(g->norm[k])) continue;
        ema[k] = mu * ema[k] + (1.0 - mu) * g->norm[k];
        decay[k] *= mu;
    }
}

/* h = e / (1 - mu^k); NaN before the first norm. */
WEFT_FN double grawa_corrected(double ema, double decay) {
    return decay < 1.0 ? ema / (1.0 - decay) : (double)NAN;
}

/* A norm in the 32 bits that it has on the wire: never rounded to zero or infinity. */
WEFT_FN float grawa_to_wire(double h) {
    if (h > 3.4028234663852886e38) return 3.402823466e38f;
    if (h > 0.0 && h < 1.401298464324817e-45) return 1.401298464e-45f;
    return (float)h;
}

/* This worker's row of the norms of a round. */
WEFT_FN void grawa_fill_wire(grawa *g) {
    float *row = g->wire + g->group.net->rank * g->groups;
    int steps = g->desc.source == GRAWA_SOURCE_STEPS;
    size_t k, i;
    for (k = 0; k < g->groups; k++) {
        double h = steps ? grawa_corrected(g->ema[k], g->decay[k]) : grawa_corrected(g->new_ema[k], g->new_decay[k]);
        /* a gradient that is not finite takes this worker's say away, whatever went before */
        if (g->norm[k] == (double)INFINITY)
            row[k] = INFINITY;
        else if (weft_is_finite(g->norm[k]) || g->skipped)
            row[k] = h == h ? grawa_to_wire(h) : (float)NAN;
        else
            row[k] = (float)NAN;
    }
    /* a group without elements has nothing to say, and nobody misses it */
    for (k = 0; k < g->groups; k++) g->seen[k] = 0;
    for (i = 0; i < g->desc.params.count; i++)
        if (g->desc.params.tensor[i].count) g->seen[g->group_of ? g->group_of[i] : 0] = 1;
    for (k = 0; k < g->groups; k++)
        if (!g->seen[k]) row[k] = 1.0f;
}

/* ---- Weights (paper: beta_m ~ 1 / ||g_m||; guards: see the manual) ---- */

/* The weights of one group among the participants. 0: the guard rejects them. */
WEFT_FN int grawa_weigh(grawa *g, size_t k, int first) {
    double sum = 0.0;
    uint32_t i, usable = 0, zero = 0, eligible = 0;
    for (i = 0; i < g->count; i++) {
        uint32_t r = g->who[i];
        float h = g->wire[r * g->groups + k];
        int finite = h >= 0.0f && h <= 3.402823466e38f;
        g->share[r * g->groups + k] = 0.0;
        if (g->fresh[r] || g->excluded[r]) continue;
        eligible++;
        if (g->desc.weighting == GRAWA_UNIFORM) continue;
        if (first && !finite) g->stats.nonfinite_norms++;
        if (g->desc.guard == GRAWA_GUARD_REJECT && ((h > 0.0f && !finite) || h == 0.0f)) return 0;
        if (!finite) continue;
        usable++;
        if (h == 0.0f) zero++;
    }
    if (!eligible) return 0;
    if (first && zero) g->stats.zero_norms++;
    for (i = 0; i < g->count; i++) {
        uint32_t r = g->who[i];
        double h = (double)g->wire[r * g->groups + k], w = 0.0;
        if (g->fresh[r] || g->excluded[r]) continue;
        if (!usable)
            w = 1.0; /* nobody has a norm, or it does not matter */
        else if (!(h >= 0.0 && h <= 3.5e38))
            w = 0.0;
        else if (zero)
            w = h == 0.0 ? 1.0 : 0.0; /* the limit of 1 / (h + eps) as eps goes to 0 */
        else
            w = g->desc.norm == GRAWA_NORM_SQUARED ? 1.0 / (h * h) : 1.0 / h;
        g->share[r * g->groups + k] = w;
        sum += w;
    }
    for (i = 0; i < g->count; i++) g->share[g->who[i] * g->groups + k] /= sum;
    return 1;
}

WEFT_FN int grawa_weigh_all(grawa *g, int first) {
    size_t k;
    for (k = 0; k < g->group.net->size * g->groups; k++) g->share[k] = 0.0;
    for (k = 0; k < g->groups; k++)
        if (!grawa_weigh(g, k, first)) return 0;
    return 1;
}

/* ---- Control messages of its own: counts, arrivals, and who takes part ---- */

WEFT_FN int grawa_in_round(const grawa *g) {
    return g->state >= GRAWA_PROBING && g->state <= GRAWA_HAVE;
}

WEFT_FN uint32_t grawa_coordinator(const grawa *g) {
    return g->group.member[0];
}

WEFT_FN int grawa_takes_part(const unsigned char *set, uint32_t rank) {
    return set[rank / 8] >> (rank % 8) & 1;
}

/* Who takes part in a round. If it is not this worker, it is behind by one round, or by several if it did not
 * listen. */
WEFT_FN weft_status grawa_on_go(grawa *g, uint32_t from, const weft_header *h, const unsigned char *payload) {
    weft_group *n = &g->group;
    uint32_t i, bytes = (n->net->size + 7) / 8;
    if (from > grawa_coordinator(g)) return WEFT_AGAIN; /* the good-bye of the one before is still under way */
    if (from != grawa_coordinator(g) || h->payload != bytes)
        return weft_group_break(n, WEFT_ERR_PROTOCOL, from, WEFT_TEXT("who takes part"), bytes, h->payload);
    if (h->round <= g->round) return WEFT_OK;
    if (g->state != GRAWA_IDLE && g->state != GRAWA_PROBING && g->state != GRAWA_READY && g->state != GRAWA_LEAVING)
        return WEFT_AGAIN;
    if (!grawa_takes_part(payload, n->net->rank)) {
        g->stats.rounds_missed += h->round - g->round;
        g->round = h->round;
        g->averages = 0;
        g->ready_told = WEFT_NO_RANK;
        for (i = 0; i < n->members; i++) {
            uint32_t r = n->member[i];
            if (r != n->net->rank) g->begun[r] = 0; /* counts are of a round */
            g->count_due[r] = g->desc.trigger == GRAWA_TRIGGER_TOTAL && g->state != GRAWA_LEAVING;
        }
        return WEFT_OK;
    }
    if (g->state != GRAWA_READY || h->round != g->round + 1)
        return weft_group_break(n, WEFT_ERR_PROTOCOL, from, WEFT_TEXT("who takes part"), g->round + 1, h->round);
    memcpy(g->go, payload, bytes);
    g->go_round = h->round;
    return WEFT_OK;
}

WEFT_FN weft_status grawa_on_control(void *owner, uint32_t from, const weft_header *h, const unsigned char *payload) {
    grawa *g = (grawa *)owner;
    int total = g->desc.trigger == GRAWA_TRIGGER_TOTAL, partial = g->desc.partial_deadline_ns != 0;
    if (h->kind == WEFT_KIND_COUNT ? !total : !partial)
        return weft_group_break(&g->group, WEFT_ERR_PROTOCOL, from, WEFT_TEXT("header.kind"), WEFT_KIND_EXCHANGE,
                                h->kind);
    if (h->kind == WEFT_KIND_GO) return grawa_on_go(g, from, h, payload);
    if (h->round > g->round + 1) return WEFT_AGAIN;
    if (h->round <= g->round) return WEFT_OK; /* of a round that is over: late, and harmless */
    if (h->kind == WEFT_KIND_COUNT) {
        if (h->arg0 > g->begun[from]) g->begun[from] = h->arg0;
    } else {
        g->ready[from] = h->round;
    }
    return WEFT_OK;
}

/* Hands out what is due: counts, the arrival, the decision, the good-bye. A full link takes it at the next poll. */
WEFT_FN weft_status grawa_tell(grawa *g) {
    weft_group *n = &g->group;
    uint32_t i;
    if (!n->synced) return WEFT_OK;
    for (i = 0; i < n->members; i++) {
        uint32_t r = n->member[i];
        weft_status s = WEFT_OK;
        weft_header h;
        if (r == n->net->rank) continue;
        memset(&h, 0, sizeof h);
        h.round = g->round + 1;
        /* the decision first: what belongs to the next round is not understood before */
        if (g->go_due[r]) {
            h.kind = WEFT_KIND_GO;
            h.round = g->go_round;
            if ((s = weft_group_post(n, r, &h, g->go, (n->net->size + 7) / 8)) == WEFT_OK) g->go_due[r] = 0;
            h.round = g->round + 1;
        }
        if (s == WEFT_OK && g->count_due[r]) {
            h.kind = WEFT_KIND_COUNT;
            h.arg0 = g->begun[n->net->rank];
            if ((s = weft_group_post(n, r, &h, NULL, 0)) == WEFT_OK) g->count_due[r] = 0;
        }
        if (s == WEFT_OK && g->state == GRAWA_READY && r == grawa_coordinator(g) && g->ready_told != r) {
            h.kind = WEFT_KIND_READY;
            h.arg0 = 0;
            if ((s = weft_group_post(n, r, &h, NULL, 0)) == WEFT_OK) g->ready_told = r;
        }
        if (s < 0) return s;
    }
    return WEFT_OK;
}

WEFT_FN weft_status grawa_pump(grawa *g) {
    weft_status s = weft_group_pump(&g->group);
    if (s != WEFT_OK) return s;
    return grawa_tell(g);
}

/* This worker begins its next local step: everybody counts. */
WEFT_FN void grawa_count(grawa *g) {
    uint32_t i;
    if (g->desc.trigger != GRAWA_TRIGGER_TOTAL) return;
    g->begun[g->group.net->rank] = (uint64_t)g->in_period + 1;
    for (i = 0; i < g->group.members; i++) g->count_due[g->group.member[i]] = 1;
}

/* Is the period over? */
WEFT_FN int grawa_due(const grawa *g) {
    const weft_group *n = &g->group;
    uint64_t sum = 0;
    uint32_t i;
    if (g->desc.trigger == GRAWA_TRIGGER_PERIOD) return g->in_period >= g->desc.period_steps;
    for (i = 0; i < n->members; i++) {
        const weft_peer *p = &n->peer[n->member[i]];
        uint64_t b = g->begun[n->member[i]];
        sum = b > UINT64_MAX - sum ? UINT64_MAX : sum + b;
        /* somebody knows more than this worker and is in the round already */
        if (g->ready[n->member[i]] == g->round + 1) return 1;
        if (p->control == WEFT_IN_HELD && p->head.kind == WEFT_KIND_EXCHANGE && p->head.epoch == n->epoch &&
            p->head.round == g->round + 1)
            return 1;
    }
    return sum >= (uint64_t)n->members * g->desc.period_steps;
}

/* ---- A round ---- */

WEFT_FN WEFT_NOINLINE void grawa_phase(grawa *g, int state, const char *phase) {
    g->state = state;
    g->group.phase = phase;
    g->group.phase_round = g->round + 1;
    g->group.may_leave = state == GRAWA_IDLE || state == GRAWA_PROBING || state == GRAWA_READY ||
                         state == GRAWA_NORMS || state == GRAWA_AVERAGE_MEET || state == GRAWA_LEAVING;
}

WEFT_FN void grawa_idle(grawa *g) {
    grawa_phase(g, GRAWA_IDLE, WEFT_TEXT("between rounds"));
}

/* A period is over, whatever became of its round. Schedules take effect. */
WEFT_FN void grawa_period_over(grawa *g) {
    uint32_t i;
    g->in_period = 0;
    g->averages = 0;
    g->desc.period_steps = g->next_period;
    g->desc.proximal = g->next_proximal;
    for (i = 0; i < g->group.net->size; i++) g->begun[i] = 0;
    g->ready_told = WEFT_NO_RANK;
    g->ready_timing = 0;
    grawa_count(g);
    grawa_idle(g);
}

WEFT_FN void grawa_begin_norms(grawa *g) {
    uint32_t i;
    g->count = 0;
    for (i = 0; i < g->group.members; i++) {
        uint32_t r = g->group.member[i];
        if (!g->desc.partial_deadline_ns || grawa_takes_part(g->go, r)) g->who[g->count++] = r;
        g->excluded[r] = 0;
    }
    g->attempt = 0;
    grawa_phase(g, GRAWA_NORMS, WEFT_TEXT("gathering the norms"));
    if (g->desc.weighting != GRAWA_UNIFORM) grawa_fill_wire(g);
    weft_gather_begin(&g->group, g->who, g->count, g->round + 1, 0, g->wire,
                      g->desc.weighting == GRAWA_UNIFORM ? 0 : g->groups * sizeof(float), sizeof(float),
                      g->fresh[g->group.net->rank]);
}

/* The norms of the round are known: g->norm holds them, or nothing was looked at. */
WEFT_FN void grawa_arrive(grawa *g) {
    memcpy(g->new_ema, g->ema, g->groups * sizeof *g->ema);
    memcpy(g->new_decay, g->decay, g->groups * sizeof *g->decay);
    if (g->desc.source != GRAWA_SOURCE_STEPS) grawa_smooth(g, g->desc.ema_rounds, g->new_ema, g->new_decay);
    if (!g->desc.partial_deadline_ns) {
        grawa_begin_norms(g);
        return;
    }
    grawa_phase(g, GRAWA_READY, WEFT_TEXT("waiting to hear who takes part"));
    g->ready_told = WEFT_NO_RANK;
    g->ready_timing = 0;
}

/* The period is over: the round begins, with a gradient from the host first if the norm comes from a probe. */
WEFT_FN weft_status grawa_begin_round(grawa *g) {
    weft_group_trace(&g->group, WEFT_EVENT_ROUND_BEGUN, WEFT_NO_RANK, g->round + 1, 0);
    if (g->desc.source == GRAWA_SOURCE_PROBE && g->desc.weighting != GRAWA_UNIFORM) {
        grawa_phase(g, GRAWA_PROBING, WEFT_TEXT("waiting for a probe gradient"));
        return WEFT_WANT_GRADIENT;
    }
    grawa_arrive(g);
    return WEFT_OK;
}

/* Partial rounds: the lowest rank decides, at its deadline, who takes part, and tells everybody. */
WEFT_FN weft_status grawa_decide(grawa *g) {
    weft_group *n = &g->group;
    uint64_t now;
    uint32_t i, here = 0;
    weft_status s = grawa_pump(g);
    if (s < 0) return s;
    if (g->go_round == g->round + 1) {
        /* the decision goes ahead of the norms; whoever is late in listening hears of a later one */
        for (i = 0; i < n->members; i++)
            if (g->go_due[n->member[i]] && grawa_takes_part(g->go, n->member[i]))
                return weft_group_deadline(n, n->member[i]);
        grawa_begin_norms(g);
        return WEFT_OK;
    }
    if (grawa_coordinator(g) != n->net->rank) return weft_group_deadline(n, grawa_coordinator(g));
    now = n->net->now(n->net->ctx);
    if (!g->ready_timing) {
        g->ready_timing = 1;
        g->ready_since_ns = now;
    }
    g->ready[n->net->rank] = g->round + 1;
    for (i = 0; i < n->members; i++) here += g->ready[n->member[i]] == g->round + 1;
    if (here < n->members && now - g->ready_since_ns < g->desc.partial_deadline_ns) return WEFT_AGAIN;
    memset(g->go, 0, sizeof g->go);
    for (i = 0; i < n->members; i++) {
        uint32_t r = n->member[i];
        if (g->ready[r] == g->round + 1) g->go[r / 8] = (unsigned char)(g->go[r / 8] | 1u << (r % 8));
        g->go_due[r] = r != n->net->rank;
    }
    g->go_round = g->round + 1;
    return grawa_decide(g);
}

/* All workers agree that this round comes to nothing. Training may go on. */
WEFT_FN weft_status grawa_reject(grawa *g, const char *field) {
    g->round++;
    g->settled = weft_round_id(g->round, g->group.epoch);
    g->stats.rounds_abandoned++;
    weft_group_trace(&g->group, WEFT_EVENT_ABANDONED, WEFT_NO_RANK, g->round, 0);
    weft_group_fail(&g->group, WEFT_ERR_NONFINITE, g->group.detail.peer, field, 0, 0);
    grawa_period_over(g);
    return WEFT_ERR_NONFINITE;
}

WEFT_FN weft_status grawa_begin_reduce(grawa *g, int first) {
    g->group.detail.peer = WEFT_NO_RANK;
    if (!grawa_weigh_all(g, first)) return grawa_reject(g, WEFT_TEXT("norms of the round"));
    g->reduce.weight = g->share;
    weft_reduce_begin(&g->reduce, WEFT_OP_ALL_REDUCE, g->desc.params.tensor, g->who, g->count, g->round + 1,
                      1 + g->attempt * weft_reduce_steps(g->group.net->size));
    grawa_phase(g, GRAWA_REDUCE, WEFT_TEXT("forming the center"));
    return WEFT_OK;
}

/* The norms are here. Only those still in the view: a worker may have said good-bye instead of sending its own. And who
 * has just joined says so itself, so that all agree on it. */
WEFT_FN weft_status grawa_take_norms(grawa *g) {
    uint32_t i, n = 0;
    for (i = 0; i < g->count; i++) {
        uint32_t r = g->who[i];
        if (!g->group.peer[r].member) continue;
        g->who[n++] = r;
        if (r == g->group.net->rank) continue;
        if (g->group.peer[r].in_arg > 1)
            return weft_group_break(&g->group, WEFT_ERR_PROTOCOL, r, WEFT_TEXT("header.argument"), 1,
                                    g->group.peer[r].in_arg);
        g->fresh[r] = (unsigned char)g->group.peer[r].in_arg;
    }
    g->count = n;
    return grawa_begin_reduce(g, 1);
}

WEFT_FN weft_status grawa_reduce_poll(grawa *g) {
    weft_status s = weft_reduce_poll(&g->reduce);
    if (s == WEFT_ERR_NONFINITE) {
        uint32_t bad = g->reduce.bad, i;
        if (bad == weft_nobody(&g->reduce) || g->desc.guard == GRAWA_GUARD_REJECT)
            return grawa_reject(g, WEFT_TEXT("parameters"));
        for (i = 0; i < g->count && g->who[i] != bad - 1; i++) continue;
        if (i == g->count || g->excluded[bad - 1] || g->fresh[bad - 1])
            return weft_group_break(&g->group, WEFT_ERR_PROTOCOL, bad - 1, WEFT_TEXT("blame for a value"), g->count, i);
        g->excluded[bad - 1] = 1;
        g->stats.nonfinite_models++;
        g->attempt++;
        return grawa_begin_reduce(g, 0);
    }
    if (s != WEFT_OK) return s;
    grawa_phase(g, GRAWA_HAVE, WEFT_TEXT("telling that the center is here"));
    g->have = weft_round_id(g->round + 1, g->group.epoch);
    g->center_hash = g->desc.check_replicas ? weft_tensors_hash(g->kernels, g->desc.pool, &g->desc.params,
                                                                g->reduce.result, g->reduce.map.position)
                                            : 0;
    weft_gather_begin(&g->group, g->who, g->count, g->round + 1, WEFT_STEP_HAVE, NULL, 0, 1, g->center_hash);
    return WEFT_OK;
}

/* The worker's model moves: the only place where a round writes the host's parameters. */
WEFT_FN void grawa_pull(grawa *g) {
    uint32_t me = g->group.net->rank;
    size_t i;
    const unsigned char *center = g->reduce.result;
    if (g->fresh[me]) {
        weft_mirror_copy_out(&g->reduce, center, g->desc.params.tensor, 0, weft_map_bytes(&g->reduce.map));
        return;
    }
    /* alone, the center is the model; and a model that is not finite is the host's to mend */
    if (g->count == 1 || g->excluded[me] || g->desc.pull == 0.0) return;
    for (i = 0; i < g->desc.params.count; i++) {
        const weft_tensor *t = &g->desc.params.tensor[i];
        weft_run_pull(g->kernels, g->desc.pool, t->dtype, t->count, g->desc.pull, center + g->reduce.map.position[i],
                      t->data);
    }
}

WEFT_FN void grawa_commit(grawa *g) {
    uint32_t i;
    grawa_pull(g);
    memcpy(g->ema, g->new_ema, g->groups * sizeof *g->ema);
    memcpy(g->decay, g->new_decay, g->groups * sizeof *g->decay);
    memcpy(g->beta, g->share, g->group.net->size * g->groups * sizeof *g->beta);
    g->restart = 1;
    if (g->anchor_memory) { /* the center becomes the anchor, and the old anchor's memory the next reduction's */
        unsigned char *old = g->anchor_memory;
        g->anchor_memory = g->reduce.mirror;
        g->anchor = g->reduce.result;
        g->reduce.mirror = old;
    }
    g->round++;
    g->settled = g->have;
    g->have = 0;
    g->beta_round = g->round;
    g->stats.rounds++;
    g->stats.participants = 0;
    for (i = 0; i < g->count; i++) {
        uint32_t r = g->who[i];
        g->stats.participants += !g->excluded[r] && !g->fresh[r];
        g->fresh[r] = 0;
    }
    weft_group_trace(&g->group, WEFT_EVENT_COMMITTED, WEFT_NO_RANK, g->round, g->count);
    grawa_period_over(g);
}

WEFT_FN weft_status grawa_have_poll(grawa *g) {
    weft_status s = weft_group_poll(&g->group);
    uint32_t i;
    if (s != WEFT_OK) return s;
    for (i = 0; i < g->count; i++)
        if (g->who[i] != g->group.net->rank && g->group.peer[g->who[i]].in_arg != g->center_hash)
            return weft_group_break(&g->group, WEFT_ERR_MISMATCH, g->who[i], WEFT_TEXT("hash of the center"),
                                    g->center_hash, g->group.peer[g->who[i]].in_arg);
    grawa_commit(g);
    return WEFT_OK;
}

/* ---- First contact, and new views ---- */

WEFT_FN void grawa_begin_sync(grawa *g) {
    uint64_t *f = g->sync.mine;
    /* a second loss before the first is settled changes nothing about the round that was cut short */
    if (g->state != GRAWA_SYNC) g->cut = grawa_in_round(g) || g->state == GRAWA_SETTLE || g->state == GRAWA_SETTLE_HAVE;
    f[WEFT_SYNC_COMMITTED] = g->settled;
    f[WEFT_SYNC_HAVE] = g->have;
    f[WEFT_SYNC_FRESH] = 0;
    if (!g->joined || g->fresh[g->group.net->rank]) f[WEFT_SYNC_FRESH] |= GRAWA_SYNC_FRESH;
    if (g->cut) f[WEFT_SYNC_FRESH] |= GRAWA_SYNC_CUT;
    f[WEFT_SYNC_HASH] = g->initial_hash;
    grawa_phase(g, GRAWA_SYNC, WEFT_TEXT("agreeing on a view"));
    weft_sync_begin(&g->sync, &g->group);
    g->group.phase_round = g->round;
}

/* All members are new: what is the model that they start from? */
WEFT_FN weft_status grawa_settle(grawa *g) {
    weft_group *n = &g->group;
    uint32_t i, r;
    size_t k;
    weft_operation op = WEFT_OP_ALL_REDUCE;
    if (g->desc.initial == GRAWA_INITIAL_CHECK) {
        for (i = 0; i < n->members; i++)
            if (weft_sync_field(&g->sync, n->member[i], WEFT_SYNC_HASH) != g->initial_hash &&
                n->member[i] != n->net->rank)
                return weft_group_break(n, WEFT_ERR_MISMATCH, n->member[i], WEFT_TEXT("hash of the initial parameters"),
                                        g->initial_hash, weft_sync_field(&g->sync, n->member[i], WEFT_SYNC_HASH));
        return WEFT_OK;
    }
    if (g->desc.initial == GRAWA_INITIAL_KEEP) return WEFT_OK;
    if (g->desc.initial == GRAWA_INITIAL_COPY) {
        if (!n->peer[g->desc.initial_rank].member)
            return weft_group_break(n, WEFT_ERR_ARGUMENT, g->desc.initial_rank,
                                    WEFT_TEXT("initial_rank (not a member)"), 1, 0);
        op = WEFT_OP_BROADCAST;
        g->reduce.weight = NULL;
    } else {
        for (r = 0; r < n->net->size; r++)
            for (k = 0; k < g->groups; k++)
                g->share[r * g->groups + k] = n->peer[r].member ? 1.0 / (double)n->members : 0.0;
        g->reduce.weight = g->share;
    }
    weft_reduce_begin(&g->reduce, op, g->desc.params.tensor, n->member, n->members, g->round + 1, 1);
    for (i = 0; i < n->members; i++)
        if (n->member[i] == g->desc.initial_rank) g->reduce.root = i;
    grawa_phase(g, GRAWA_SETTLE, WEFT_TEXT("settling the initial parameters"));
    return WEFT_OK;
}

WEFT_FN void grawa_commit_settle(grawa *g) {
    weft_mirror_copy_out(&g->reduce, g->reduce.result, g->desc.params.tensor, 0, weft_map_bytes(&g->reduce.map));
    grawa_anchor_here(g);
    g->round++;
    g->settled = g->have;
    g->have = 0;
}

/* Goes on with what was wanted before the view was agreed. */
WEFT_FN weft_status grawa_then(grawa *g);

WEFT_FN weft_status grawa_sync_poll(grawa *g) {
    weft_group *n = &g->group;
    weft_status s = weft_sync_poll(&g->sync, n);
    uint64_t committed, was = g->round;
    uint32_t i, all_fresh = 1;
    int joins = 0, behind = 0;
    if (s != WEFT_OK) return s;
    committed = g->sync.committed;
    g->joined = 1;
    for (i = 0; i < n->members; i++)
        if (!(weft_sync_field(&g->sync, n->member[i], WEFT_SYNC_FRESH) & GRAWA_SYNC_FRESH)) all_fresh = 0;
    for (i = 0; i < n->members; i++) {
        uint32_t r = n->member[i];
        uint64_t marks = weft_sync_field(&g->sync, r, WEFT_SYNC_FRESH);
        uint64_t last = weft_sync_field(&g->sync, r, WEFT_SYNC_COMMITTED) & WEFT_ROUND_MASK;
        int commits = weft_sync_commits(&g->sync, weft_sync_field(&g->sync, r, WEFT_SYNC_HAVE));
        /* one round behind is who was cut short in it; partial rounds leave anyone behind by any number */
        if (!(marks & GRAWA_SYNC_FRESH) && last != committed && !commits &&
            !((marks & GRAWA_SYNC_CUT) && last + 1 == committed) && !g->desc.partial_deadline_ns)
            return weft_group_break(n, WEFT_ERR_MISMATCH, r, WEFT_TEXT("round"), committed, last);
        if (r == n->net->rank) {
            /* whoever is new takes over the first center, unless only new ones are left to form it */
            joins = (marks & GRAWA_SYNC_FRESH) && committed != 0 && !all_fresh && !commits;
            behind = last + 1 == committed;
        }
        g->ready[r] = g->begun[r] = g->go_due[r] = 0;
    }
    g->go_round = 0;
    g->ready_told = WEFT_NO_RANK;
    if (weft_sync_commits(&g->sync, g->have)) {
        if (g->settled == 0 && g->desc.initial != GRAWA_INITIAL_KEEP && g->desc.initial != GRAWA_INITIAL_CHECK)
            grawa_commit_settle(g);
        else
            grawa_commit(g);
    } else if (g->cut) {
        g->stats.rounds_abandoned++;
        weft_group_trace(n, WEFT_EVENT_ABANDONED, WEFT_NO_RANK, was + 1, 0);
        if (behind) grawa_period_over(g); /* the others had rejected it: their period is over, too */
    }
    g->fresh[n->net->rank] = (unsigned char)joins;
    g->round = committed;
    g->settled = g->sync.committed_id;
    g->have = 0;
    g->cut = 0;
    g->averages = 0;
    grawa_idle(g);
    if (committed == 0 && (s = grawa_settle(g)) != WEFT_OK) return s;
    return g->state == GRAWA_SETTLE ? WEFT_OK : grawa_then(g);
}

WEFT_FN weft_status grawa_settle_poll(grawa *g) {
    weft_status s = weft_reduce_poll(&g->reduce);
    if (s == WEFT_ERR_NONFINITE)
        return weft_group_break(&g->group, s, g->group.detail.peer, WEFT_TEXT("initial parameters"), 0,
                                g->reduce.nonfinite);
    if (s != WEFT_OK) return s;
    grawa_phase(g, GRAWA_SETTLE_HAVE, WEFT_TEXT("settling the initial parameters"));
    g->have = weft_round_id(g->round + 1, g->group.epoch);
    weft_gather_begin(&g->group, g->group.member, g->group.members, g->round + 1, WEFT_STEP_HAVE, NULL, 0, 1, 0);
    return WEFT_OK;
}

/* ---- grawa_average ---- */

/* Exchanges that one grawa_average may need. */
WEFT_FN uint32_t grawa_average_steps(const grawa *g) {
    return 2 * weft_reduce_steps(g->group.net->size) + 1;
}

WEFT_FN uint32_t grawa_average_step(const grawa *g) {
    return (uint32_t)GRAWA_STEP_AVERAGE + (uint32_t)g->averages * grawa_average_steps(g);
}

/* What everybody must mean: the mean, or the center under the weights of this round. */
WEFT_FN uint64_t grawa_average_id(const grawa *g) {
    return g->model == GRAWA_CENTER ? g->beta_round + 1 : 0;
}

WEFT_FN void grawa_begin_average(grawa *g) {
    grawa_phase(g, GRAWA_AVERAGE_MEET, WEFT_TEXT("meeting for an average"));
    weft_gather_begin(&g->group, g->group.member, g->group.members, g->round, grawa_average_step(g), NULL, 0, 1,
                      grawa_average_id(g) << 1 | g->fresh[g->group.net->rank]);
}

/* Does everybody mean the same? And then the weights, over the workers that are here. */
WEFT_FN weft_status grawa_average_weights(grawa *g) {
    weft_group *n = &g->group;
    uint64_t mine = grawa_average_id(g);
    uint32_t i, r, old = 0;
    size_t k;
    for (i = 0; i < n->members; i++) {
        uint64_t arg = n->peer[n->member[i]].in_arg;
        if (n->member[i] != n->net->rank) {
            if (arg >> 1 != mine)
                return weft_group_fail(n, WEFT_ERR_MISMATCH, n->member[i], WEFT_TEXT("model, or round of the weights"),
                                       mine, arg >> 1);
            g->fresh[n->member[i]] = arg & 1u;
        }
        old += !g->fresh[n->member[i]];
    }
    for (k = 0; k < g->groups; k++) {
        double sum = 0.0;
        for (i = 0; i < n->members; i++) sum += g->beta[n->member[i] * g->groups + k];
        for (r = 0; r < n->net->size; r++) {
            /* whoever has just joined has no model of its own yet */
            double equal = n->peer[r].member && (!old || !g->fresh[r]) ? 1.0 / (double)(old ? old : n->members) : 0.0;
            double beta = n->peer[r].member ? g->beta[r * g->groups + k] : 0.0;
            g->share[r * g->groups + k] = g->model == GRAWA_MEAN || !(sum > 0.0) ? equal : beta / sum;
        }
    }
    return WEFT_OK;
}

WEFT_FN void grawa_average_over(grawa *g) {
    g->averages++;
    grawa_idle(g);
}

WEFT_FN weft_status grawa_average_poll(grawa *g) {
    weft_group *n = &g->group;
    uint32_t step = grawa_average_step(g) + 1, r;
    int buffers = g->state == GRAWA_AVERAGE_BUFFERS;
    weft_reduce *sum = buffers ? &g->buffers : &g->reduce;
    const weft_tensors *into = buffers ? &g->into_buffers : &g->into;
    weft_status s;
    if (g->state == GRAWA_AVERAGE_MEET) {
        if ((s = grawa_tell(g)) < 0 || (s = weft_group_poll(n)) != WEFT_OK) return s;
        if ((s = grawa_average_weights(g)) != WEFT_OK) {
            grawa_average_over(g);
            return s;
        }
        g->reduce.weight = g->share;
        weft_reduce_begin(&g->reduce, WEFT_OP_ALL_REDUCE, g->desc.params.tensor, n->member, n->members, g->round, step);
        grawa_phase(g, GRAWA_AVERAGE, WEFT_TEXT("averaging the models"));
        return WEFT_OK;
    }
    s = weft_reduce_poll(sum);
    if (s == WEFT_ERR_NONFINITE) grawa_average_over(g);
    if (s != WEFT_OK) return s;
    if (into->tensor) weft_mirror_copy_out(sum, sum->result, into->tensor, 0, weft_map_bytes(&sum->map));
    if (buffers || g->desc.buffers.count == 0) {
        grawa_average_over(g);
        return WEFT_OK;
    }
    for (r = 0; r < n->net->size; r++) g->share[r] = n->peer[r].member ? 1.0 / (double)n->members : 0.0;
    g->buffers.weight = g->share;
    weft_reduce_begin(&g->buffers, WEFT_OP_ALL_REDUCE, g->desc.buffers.tensor, n->member, n->members, g->round,
                      step + weft_reduce_steps(n->net->size));
    grawa_phase(g, GRAWA_AVERAGE_BUFFERS, WEFT_TEXT("averaging the buffers"));
    return WEFT_OK;
}

WEFT_FN void grawa_begin_leave(grawa *g) {
    memset(g->count_due, 0, g->group.net->size);
    grawa_phase(g, GRAWA_LEAVING, WEFT_TEXT("saying good-bye"));
}

/* ---- Driving ---- */

WEFT_FN weft_status grawa_then(grawa *g) {
    int then = g->then;
    g->then = GRAWA_THEN_IDLE;
    if (then == GRAWA_THEN_STEP) {
        g->begun[g->group.net->rank] = g->in_period; /* the step that is done is the last one begun */
        if (grawa_due(g)) return grawa_begin_round(g);
    }
    grawa_count(g);
    if (then == GRAWA_THEN_AVERAGE) grawa_begin_average(g);
    if (then == GRAWA_THEN_LEAVE) grawa_begin_leave(g);
    return WEFT_OK;
}

/* One phase after the other until one has to wait. */
WEFT_FN weft_status grawa_drive(grawa *g) {
    weft_status s = WEFT_OK;
    uint32_t i;
    while (s == WEFT_OK) {
        int before = g->state;
        switch (g->state) {
        case GRAWA_IDLE: return grawa_pump(g);
        case GRAWA_SYNC: s = grawa_sync_poll(g); break;
        case GRAWA_SETTLE: s = grawa_settle_poll(g); break;
        case GRAWA_SETTLE_HAVE:
            if ((s = weft_group_poll(&g->group)) != WEFT_OK) break;
            grawa_commit_settle(g);
            grawa_idle(g);
            s = grawa_then(g);
            break;
        case GRAWA_PROBING: return (s = grawa_pump(g)) < 0 ? s : WEFT_WANT_GRADIENT;
        case GRAWA_READY: s = grawa_decide(g); break;
        case GRAWA_NORMS:
            if ((s = grawa_tell(g)) < 0 || (s = weft_group_poll(&g->group)) != WEFT_OK) break;
            s = grawa_take_norms(g);
            break;
        case GRAWA_REDUCE:
            if ((s = grawa_tell(g)) >= 0) s = grawa_reduce_poll(g);
            break;
        case GRAWA_HAVE:
            if ((s = grawa_tell(g)) >= 0) s = grawa_have_poll(g);
            break;
        case GRAWA_AVERAGE_MEET:
        case GRAWA_AVERAGE:
        case GRAWA_AVERAGE_BUFFERS: s = grawa_average_poll(g); break;
        case GRAWA_LEAVING:
            if ((s = grawa_pump(g)) < 0) break;
            for (i = 0; i < g->group.members && !g->go_due[g->group.member[i]]; i++) continue;
            if (i < g->group.members) return weft_group_deadline(&g->group, WEFT_NO_RANK);
            if ((s = weft_group_leave(&g->group, g->round + 1)) != WEFT_OK) break;
            grawa_phase(g, GRAWA_LEFT, WEFT_TEXT("gone"));
            return WEFT_OK;
        default: return WEFT_OK;
        }
        if (s == WEFT_OK && g->state == GRAWA_IDLE && before != GRAWA_IDLE)
            return grawa_pump(g); /* counts go out at once */
    }
    return s;
}

/* ---- Verbs ---- */

/* A verb begins. `states`: bit a state in which it is legal. Ends with grawa_exit. */
WEFT_FN weft_status grawa_enter(grawa *g, uint32_t states) {
    if (!g || g->magic != GRAWA_MAGIC) return WEFT_ERR_ARGUMENT;
    if (g->group.busy) return WEFT_ERR_REENTRY;
    if (!(states >> g->state & 1u))
        return weft_group_fail(&g->group, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("state"), states, (uint64_t)g->state);
    g->group.busy = 1;
    g->group.detail = weft_detail_none();
    return WEFT_OK;
}

WEFT_FN WEFT_NOINLINE weft_status grawa_exit(grawa *g, weft_status s) {
    const weft_status device = WEFT_GPU_BREAKS_GROUP(&g->group);
    g->group.busy = 0;
    if (device < 0) s = device; /* whatever else came of it */
    if (s > 0) g->group.detail.status = s;
    return s;
}

#define GRAWA_ONLY_IDLE (1u << GRAWA_IDLE)
#define GRAWA_ANY_LIVE ((1u << GRAWA_LEFT) - 1u)

GRAWA_API weft_status grawa_start(grawa *g) {
    weft_status s = grawa_enter(g, GRAWA_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (!g->group.synced && !g->group.failed) {
        if (g->stats.steps == 0 && g->round == 0) grawa_look_at_start(g); /* they may have been filled in since init */
        grawa_begin_sync(g);
    }
    return grawa_exit(g, grawa_drive(g));
}

GRAWA_API weft_status grawa_step(grawa *g, const weft_tensors *grads) {
    int learning, due, may_close;
    size_t i;
    weft_status s = grawa_enter(g, GRAWA_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (grads && ((s = weft_tensors_check(grads, 1, &g->group.detail)) != WEFT_OK ||
                  (s = weft_tensors_match(&g->desc.params, grads, &g->group.detail)) != WEFT_OK))
        return grawa_exit(g, s);
    for (i = 0; g->anchor && g->desc.proximal > 0 && i < g->desc.params.count; i++) {
        const weft_tensor *t = &g->desc.params.tensor[i];
        weft_run_pull(g->kernels, g->desc.pool, t->dtype, t->count, g->desc.proximal / (double)g->desc.period_steps,
                      g->anchor + g->reduce.map.position[i], t->data);
    }
    g->in_period += g->in_period < UINT32_MAX;
    g->stats.steps++;
    if (g->group.synced && g->desc.trigger == GRAWA_TRIGGER_TOTAL) s = grawa_pump(g);
    due = g->group.synced && grawa_due(g);
    /* before first contact this may or may not be the closing step; by the period alone it is known all the same */
    may_close = due || (!g->group.synced && (g->desc.trigger == GRAWA_TRIGGER_TOTAL || grawa_due(g)));
    learning = g->desc.source == GRAWA_SOURCE_STEPS || (g->desc.source == GRAWA_SOURCE_CLOSING && may_close);
    if (learning && g->desc.weighting != GRAWA_UNIFORM) {
        grawa_look(g, grads);
        if (g->desc.source == GRAWA_SOURCE_STEPS) {
            /* by model the average over steps restarts after each round, by layer never (as published) */
            if (g->restart && g->desc.weighting == GRAWA_BY_MODEL && weft_is_finite(g->norm[0])) {
                g->ema[0] = 0.0;
                g->decay[0] = 1.0;
                g->restart = 0;
            }
            grawa_smooth(g, g->desc.ema_steps, g->ema, g->decay);
        }
    }
    if (s < 0) return grawa_exit(g, s);
    if (due || !g->group.synced) {
        if (g->group.failed) return grawa_exit(g, weft_group_pump(&g->group));
        if (due)
            s = grawa_begin_round(g);
        else {
            g->then = GRAWA_THEN_STEP;
            grawa_begin_sync(g);
        }
        return grawa_exit(g, s == WEFT_OK ? grawa_drive(g) : s);
    }
    grawa_count(g);
    return grawa_exit(g, g->desc.trigger == GRAWA_TRIGGER_TOTAL ? grawa_pump(g) : WEFT_OK);
}

GRAWA_API weft_status grawa_probe(grawa *g, const weft_tensors *grads) {
    weft_status s = grawa_enter(g, 1u << GRAWA_PROBING);
    if (s != WEFT_OK) return s;
    if (grads && ((s = weft_tensors_check(grads, 1, &g->group.detail)) != WEFT_OK ||
                  (s = weft_tensors_match(&g->desc.params, grads, &g->group.detail)) != WEFT_OK))
        return grawa_exit(g, s);
    grawa_look(g, grads);
    grawa_arrive(g);
    return grawa_exit(g, grawa_drive(g));
}

GRAWA_API weft_status grawa_poll(grawa *g) {
    weft_status s = grawa_enter(g, GRAWA_ANY_LIVE | 1u << GRAWA_LEFT);
    return s != WEFT_OK ? s : grawa_exit(g, grawa_drive(g));
}

GRAWA_API weft_status grawa_wait(grawa *g) {
    for (;;) {
        weft_status s = grawa_poll(g);
        const weft_transport *net;
        uint64_t until = UINT64_MAX, now;
        if (s != WEFT_AGAIN) return s;
        net = g->group.net;
        if (!net->wait) continue;
        if (net->now && (g->desc.timeout_ns || g->desc.partial_deadline_ns)) {
            now = net->now(net->ctx);
            if (g->desc.timeout_ns && g->desc.timeout_ns < until - now) until = now + g->desc.timeout_ns;
            if (g->state == GRAWA_READY && g->ready_timing) {
                uint64_t waited = now - g->ready_since_ns, most = g->desc.partial_deadline_ns;
                uint64_t left = waited < most ? most - waited : 0;
                if (left < until - now) until = now + left;
            }
        }
        net->wait(net->ctx, until);
    }
}

/* A view to write averages into: shapes and types of `like`. */
WEFT_FN weft_status grawa_check_into(grawa *g, const weft_tensors *into, const weft_tensors *like) {
    size_t i;
    weft_status s;
    if (!into) return WEFT_OK;
    if ((s = weft_tensors_check(into, 0, &g->group.detail)) != WEFT_OK) return s;
    if ((s = weft_tensors_match(like, into, &g->group.detail)) != WEFT_OK) return s;
    for (i = 0; i < like->count; i++)
        if (into->tensor[i].dtype != like->tensor[i].dtype)
            return weft_group_fail(&g->group, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("into.dtype"),
                                   (uint64_t)like->tensor[i].dtype, (uint64_t)into->tensor[i].dtype);
    return WEFT_OK;
}

GRAWA_API weft_status grawa_average(grawa *g, grawa_model model, const weft_tensors *into,
                                    const weft_tensors *into_buffers) {
    weft_status s = grawa_enter(g, GRAWA_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    s = g->group.failed ? weft_group_pump(&g->group) : WEFT_OK;
    if (s == WEFT_OK) s = grawa_enum((uint64_t)model, GRAWA_CENTER, WEFT_TEXT("model"), &g->group.detail);
    if (s == WEFT_OK && g->desc.partial_deadline_ns && g->group.synced && g->round != g->sync.committed)
        s = weft_group_fail(&g->group, WEFT_ERR_UNSUPPORTED, WEFT_NO_RANK, WEFT_TEXT("rounds since the last regroup"),
                            0, g->round - g->sync.committed);
    if (s == WEFT_OK) s = grawa_check_into(g, into, &g->desc.params);
    if (s == WEFT_OK) s = grawa_check_into(g, into_buffers, &g->desc.buffers);
    if (s == WEFT_OK && (g->averages + 1) * grawa_average_steps(g) >= (uint64_t)1 << 30)
        s = weft_group_fail(&g->group, WEFT_ERR_OVERFLOW, WEFT_NO_RANK, WEFT_TEXT("averages since the last round"),
                            1u << 30, g->averages);
    if (s != WEFT_OK) return grawa_exit(g, s);
    g->model = model;
    memset(&g->into, 0, sizeof g->into);
    memset(&g->into_buffers, 0, sizeof g->into_buffers);
    if (into) g->into = *into;
    if (into_buffers) g->into_buffers = *into_buffers;
    if (g->group.synced) {
        grawa_begin_average(g);
    } else {
        g->then = GRAWA_THEN_AVERAGE;
        grawa_begin_sync(g);
    }
    return grawa_exit(g, grawa_drive(g));
}

GRAWA_API weft_status grawa_leave(grawa *g) {
    weft_status s = grawa_enter(g, GRAWA_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (g->group.failed) return grawa_exit(g, weft_group_pump(&g->group));
    if (g->group.synced) {
        grawa_begin_leave(g);
    } else {
        g->then = GRAWA_THEN_LEAVE;
        grawa_begin_sync(g);
    }
    return grawa_exit(g, grawa_drive(g));
}

WEFT_FN weft_status grawa_check_rank(grawa *g, uint32_t rank) {
    if (rank < g->group.net->size && rank != g->group.net->rank) return WEFT_OK;
    return weft_group_fail(&g->group, WEFT_ERR_ARGUMENT, rank, WEFT_TEXT("rank"), g->group.net->size, rank);
}

GRAWA_API weft_status grawa_peer_lost(grawa *g, uint32_t rank) {
    weft_status s = grawa_enter(g, GRAWA_ANY_LIVE);
    if (s != WEFT_OK) return s;
    if ((s = grawa_check_rank(g, rank)) == WEFT_OK) weft_group_lose(&g->group, rank);
    return grawa_exit(g, s);
}

GRAWA_API weft_status grawa_peer_up(grawa *g, uint32_t rank) {
    weft_status s = grawa_enter(g, GRAWA_ANY_LIVE);
    if (s != WEFT_OK) return s;
    if ((s = grawa_check_rank(g, rank)) == WEFT_OK) g->group.peer[rank].lost = g->group.peer[rank].left = 0;
    return grawa_exit(g, s);
}

GRAWA_API weft_status grawa_regroup(grawa *g, const weft_view *view) {
    weft_status s = grawa_enter(g, GRAWA_ANY_LIVE);
    if (s != WEFT_OK) return s;
    s = weft_group_check_view(&g->group, view);
    if (s != WEFT_OK) return grawa_exit(g, s);
    if (g->state != GRAWA_SYNC && g->state != GRAWA_LEAVING) g->then = GRAWA_THEN_IDLE;
    if (g->state == GRAWA_LEAVING) g->then = GRAWA_THEN_LEAVE;
    weft_reduce_cancel(&g->reduce);
    weft_reduce_cancel(&g->buffers);
    weft_group_set_view(&g->group, view);
    grawa_begin_sync(g);
    return grawa_exit(g, grawa_drive(g));
}

/* ---- Saved state ---- */

/* All of it in order: measured, written and read by the same lines. */
WEFT_FN void grawa_blob(grawa *g, weft_blob *b) {
    uint64_t *counters[18], joined = g->fresh[g->group.net->rank], period = g->desc.period_steps, next = g->next_period,
                            in_period = g->in_period;
    size_t i, n = 0;
    counters[n++] = &g->round;
    counters[n++] = &g->settled;
    counters[n++] = &g->beta_round;
    counters[n++] = &g->averages;
    counters[n++] = &g->restart;
    counters[n++] = &joined;
    counters[n++] = &g->initial_hash;
    counters[n++] = &g->stats.steps;
    counters[n++] = &g->stats.rounds;
    counters[n++] = &g->stats.rounds_abandoned;
    counters[n++] = &g->stats.rounds_missed;
    counters[n++] = &g->stats.participants;
    counters[n++] = &g->stats.zero_norms;
    counters[n++] = &g->stats.nonfinite_norms;
    counters[n++] = &g->stats.nonfinite_models;
    counters[n++] = &period;
    counters[n++] = &next;
    counters[n++] = &in_period;
    for (i = 0; i < n; i++) weft_blob_u64(b, counters[i]);
    weft_blob_double(b, &g->desc.pull);
    weft_blob_double(b, &g->desc.proximal);
    weft_blob_double(b, &g->next_proximal);
    weft_blob_double(b, &g->grad_scale);
    for (i = 0; i < 3 * g->groups; i++) weft_blob_double(b, &g->norm[i]); /* norm, ema, decay */
    for (i = 0; i < g->group.net->size * g->groups; i++) weft_blob_double(b, &g->beta[i]);
    WEFT_GPU_USE(*b, &g->desc, &g->gpu);
    for (i = 0; g->anchor && i < g->desc.params.count; i++) {
        const weft_tensor *t = &g->desc.params.tensor[i];
        size_t each = weft_dtype_bytes(t->dtype);
        weft_blob_raw(b, g->anchor + g->reduce.map.position[i], t->count * each, each);
    }
    if (!b->read || b->status != WEFT_OK) return;
    g->fresh[g->group.net->rank] = joined != 0;
    g->joined = g->settled != 0;
    g->desc.period_steps = period > 0 && period <= UINT32_MAX ? (uint32_t)period : 0;
    g->next_period = next > 0 && next <= UINT32_MAX ? (uint32_t)next : 0;
    g->in_period = in_period <= UINT32_MAX ? (uint32_t)in_period : UINT32_MAX;
}

WEFT_FN size_t grawa_blob_bytes(grawa *g) {
    weft_blob b;
    memset(&b, 0, sizeof b);
    b.at = WEFT_BLOB_HEAD;
    grawa_blob(g, &b);
    return b.at + WEFT_BLOB_TAIL;
}

GRAWA_API weft_status grawa_save_to(grawa *g, weft_write_fn write, void *ctx, size_t *bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    weft_status s = grawa_enter(g, GRAWA_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    s = weft_blob_begin(&b, write, ctx, grawa_blob_bytes(g), grawa_blob_fingerprint(g), bytes, &why);
    if (s == WEFT_OK) {
        grawa_blob(g, &b);
        s = weft_blob_end(&b, 1, &why);
    }
    if (s != WEFT_OK) (void)weft_group_fail(&g->group, s, WEFT_NO_RANK, why.field, why.expected, why.got);
    return grawa_exit(g, s);
}

GRAWA_API weft_status grawa_save(grawa *g, void *buf, size_t capacity, size_t *bytes) {
    weft_blob_buffer m;
    m.to = (unsigned char *)buf;
    m.bytes = capacity;
    return grawa_save_to(g, buf ? weft_blob_to_buffer : NULL, &m, bytes);
}

/* A blob may have a valid checksum and still be hostile. */
WEFT_FN int grawa_blob_sane(const grawa *g) {
    size_t k, i;
    uint32_t r;
    weft_detail d;
    if (g->desc.period_steps == 0 || g->next_period == 0 || (g->settled & WEFT_ROUND_MASK) > g->round ||
        g->beta_round > g->round || g->round >= WEFT_ROUND_MASK || g->averages > UINT32_MAX)
        return 0;
    if (grawa_range(g->desc.pull, 0, 1, 0, NULL, &d) || grawa_range(g->desc.proximal, 0, 1, 0, NULL, &d) ||
        grawa_range(g->next_proximal, 0, 1, 0, NULL, &d) ||
        (!g->anchor && (g->desc.proximal > 0 || g->next_proximal > 0)) || !weft_is_finite(g->grad_scale) ||
        g->grad_scale == 0.0)
        return 0;
    for (k = 0; k < g->groups; k++) {
        double sum = 0.0;
        if (!(g->ema[k] >= 0.0) || !weft_is_finite(g->ema[k]) || grawa_range(g->decay[k], 0, 1, 0, NULL, &d)) return 0;
        for (r = 0; r < g->group.net->size; r++) {
            if (grawa_range(g->beta[r * g->groups + k], 0, 1, 0, NULL, &d)) return 0;
            sum += g->beta[r * g->groups + k];
        }
        if (sum > 1.000001) return 0;
    }
    for (i = 0; g->anchor && i < g->desc.params.count; i++) {
        const weft_tensor *t = &g->desc.params.tensor[i];
        if (weft_run_count_nonfinite(g->kernels, g->desc.pool, t->dtype, t->count,
                                     g->anchor + g->reduce.map.position[i]))
            return 0; /* the proximal pull would carry it into the parameters */
    }
    return 1;
}

GRAWA_API weft_status grawa_load_from(grawa *g, weft_read_fn read, void *ctx, size_t bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    grawa_desc keep;
    uint64_t hash;
    uint32_t period;
    double proximal, scale;
    weft_status s = grawa_enter(g, GRAWA_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (!(grawa_state(g) & GRAWA_MAY_LOAD))
        return grawa_exit(
            g, weft_group_fail(&g->group, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("steps"), 0, g->stats.steps));
    s = weft_blob_check(&b, read, ctx, bytes, grawa_blob_bytes(g), grawa_blob_fingerprint(g), &why);
    if (s == WEFT_OK) {
        keep = g->desc;
        period = g->next_period;
        proximal = g->next_proximal;
        scale = g->grad_scale;
        hash = g->initial_hash;
        grawa_blob(g, &b);
        s = weft_blob_end(&b, grawa_blob_sane(g), &why);
        if (s == WEFT_OK) return grawa_exit(g, WEFT_OK);
        g->desc = keep;
        grawa_begin_afresh(g);
        g->next_period = period;
        g->next_proximal = proximal;
        g->grad_scale = scale;
        g->initial_hash = hash;
        grawa_anchor_here(g);
    }
    return grawa_exit(g, weft_group_fail(&g->group, s, WEFT_NO_RANK, why.field, why.expected, why.got));
}

GRAWA_API weft_status grawa_load(grawa *g, const void *buf, size_t bytes) {
    weft_blob_buffer m;
    m.from = (const unsigned char *)buf;
    return grawa_load_from(g, buf ? weft_blob_from_buffer : NULL, &m, bytes);
}

/* ---- Setters ---- */

GRAWA_API weft_status grawa_set_period(grawa *g, uint32_t period_steps) {
    weft_status s = grawa_enter(g, GRAWA_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if (period_steps == 0)
        return grawa_exit(g,
                          weft_group_fail(&g->group, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("period_steps"), 1, 0));
    g->next_period = period_steps;
    return grawa_exit(g, WEFT_OK);
}

GRAWA_API weft_status grawa_set_pull(grawa *g, double pull) {
    weft_status s = grawa_enter(g, GRAWA_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if ((s = grawa_range(pull, 0, 1, 0, WEFT_TEXT("pull"), &g->group.detail)) == WEFT_OK) g->desc.pull = pull;
    return grawa_exit(g, s);
}

GRAWA_API weft_status grawa_set_proximal(grawa *g, double proximal) {
    weft_status s = grawa_enter(g, GRAWA_ONLY_IDLE);
    if (s != WEFT_OK) return s;
    if ((s = grawa_range(proximal, 0, 1, 0, WEFT_TEXT("proximal"), &g->group.detail)) == WEFT_OK) {
        if (proximal > 0 && !g->anchor)
            s = weft_group_fail(&g->group, WEFT_ERR_UNSUPPORTED, WEFT_NO_RANK,
                                WEFT_TEXT("proximal (off at init: no memory)"), 0, weft_double_bits(proximal));
        else
            g->next_proximal = proximal;
    }
    return grawa_exit(g, s);
}

GRAWA_API weft_status grawa_set_grad_scale(grawa *g, double scale) {
    weft_status s = grawa_enter(g, GRAWA_ONLY_IDLE | 1u << GRAWA_PROBING);
    if (s != WEFT_OK) return s;
    if (!weft_is_finite(scale) || scale == 0.0)
        return grawa_exit(g, weft_group_fail(&g->group, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("scale"), 1,
                                             weft_double_bits(scale)));
    g->grad_scale = scale;
    return grawa_exit(g, WEFT_OK);
}

/* ---- Reading ---- */

GRAWA_API void grawa_stats(const grawa *g, grawa_stats_t *out) {
    if (!g || !out) return;
    *out = g->stats;
    out->members = g->group.members;
    out->traffic = g->group.traffic;
}

GRAWA_API void grawa_effective(const grawa *g, grawa_desc *out) {
    if (g && out) *out = g->desc;
}

GRAWA_API uint32_t grawa_members(const grawa *g, uint32_t *ranks, uint32_t capacity) {
    uint32_t i;
    if (!g) return 0;
    for (i = 0; ranks && i < g->group.members && i < capacity; i++) ranks[i] = g->group.member[i];
    return g->group.members;
}

GRAWA_API const weft_detail *grawa_detail(const grawa *g) {
    return g ? &g->group.detail : NULL;
}

GRAWA_API uint32_t grawa_state(const grawa *g) {
    if (!g || g->magic != GRAWA_MAGIC || g->state >= GRAWA_LEFT) return 0;
    if (g->state != GRAWA_IDLE)
        return (g->state == GRAWA_PROBING ? GRAWA_MAY_PROBE : GRAWA_MAY_POLL) | GRAWA_MAY_REGROUP;
    return GRAWA_MAY_STEP | GRAWA_MAY_REGROUP |
           (g->stats.steps == 0 && g->round == 0 && !g->group.synced ? GRAWA_MAY_LOAD : 0);
}

GRAWA_API uint32_t grawa_groups(const grawa *g) {
    return g ? (uint32_t)g->groups : 0;
}

GRAWA_API double grawa_weight(const grawa *g, uint32_t rank, uint32_t group) {
    if (!g || rank >= g->group.net->size || group >= g->groups) return (double)NAN;
    return g->beta[(size_t)rank * g->groups + group];
}

GRAWA_API weft_status grawa_group(const grawa *g, uint32_t group, grawa_group_t *out) {
    if (!g || !out || group >= g->groups) return WEFT_ERR_ARGUMENT;
    out->norm = weft_is_finite(g->norm[group]) ? g->norm[group] : (double)NAN;
    out->ema = g->ema[group];
    out->corrected = grawa_corrected(g->ema[group], g->decay[group]);
    return WEFT_OK;
}

GRAWA_API void grawa_close(grawa *g) {
    if (!g || g->magic != GRAWA_MAGIC || g->group.busy) return;
    weft_reduce_cancel(&g->reduce);
    weft_reduce_cancel(&g->buffers);
    weft_group_close(&g->group);
    g->state = GRAWA_CLOSED;
    g->magic = 0;
}
