/* SPDX-License-Identifier: MIT
 * saddle.h: sharpness-aware decentralised learning over compressed links (SADDLe: Q-SADDLe, N-SADDLe), and what it is
 * built on (QGM, NGC, D-PSGD, DSGDm-N), in plain C, for training processes of any framework.
 *
 * Workers on a graph hold different data. Each takes its gradient where the loss nearby is worst (SAM: at x + eps,
 * eps = rho g / (|g| + 1e-12), with the same mini-batch), steps, and averages its model with its neighbours'. Q-SADDLe
 * keeps a momentum buffer that follows the averaged model (quasi-global momentum); N-SADDLe also takes gradients at the
 * neighbours' models, with its own data, and sends them there (neighbourhood gradient clustering). Flat minima and
 * messages that are compressed go well together.
 * S. Choudhary, S. A. Aketi, K. Roy: "SADDLe: Sharpness-Aware Decentralized Deep Learning with Heterogeneous Data",
 * WACV 2025, arXiv 2405.13961. The authors have published no code of it; steps follow the published code of its parts:
 * T. Lin et al., "Quasi-Global Momentum", arXiv 2102.04761; S. A. Aketi et al., "Neighborhood Gradient Clustering",
 * arXiv 2209.14390; P. Foret et al., "Sharpness-Aware Minimization", arXiv 2010.01412; A. Koloskova et al., CHOCO-SGD,
 * arXiv 1902.00340; H. Tang et al., DeepSqueeze, arXiv 1907.07346. Where the climb goes in N-SADDLe (at the neighbour's
 * model, along the very gradient taken there) and the orders of steps are this library's reading.
 *
 * ---- Quick start ----
 *
 *   #define SADDLE_IMPLEMENTATION           // in exactly one source file
 *   #include "saddle.h"
 *
 *   weft_tensor t[] = { {w1, n1, WEFT_F32}, {b1, n2, WEFT_F32} };    // your parameters, where they are
 *   weft_tensors params = {t, 2};
 *   weft_transport net = weft_transport_make(&my_net, rank, size, my_send, my_recv, my_test, my_cancel, my_now);
 *   weft_graph graph;                       // who is whose neighbour: the same on all workers
 *   weft_graph_ring(&graph, size, graph_memory, sizeof graph_memory);
 *
 *   saddle_desc d = {sizeof d};             // zero is the default everywhere
 *   d.params = params; d.transport = &net; d.graph = &graph;
 *   d.variant = SADDLE_N; d.rho = 0.1; d.learning_rate = 0.05; d.codec = weft_codec_q8();
 *   size_t bytes = saddle_memory(&d, NULL); // exact; a report names every buffer
 *   saddle *x; weft_status s = saddle_init(&x, &d, malloc(bytes), bytes);
 *   if (s < 0) return fail(weft_strerror(s), NULL);
 *
 *   for (;;) {
 *       batch = next_batch();
 *       saddle_want w;
 *       while ((s = saddle_next(x, &w)) != WEFT_OK) {       // WEFT_OK: the step is complete, parameters updated
 *           if (s == WEFT_WANT_GRADIENT) gradient(model, batch, w.at, w.into);
 *           else if (s == WEFT_AGAIN) do_something_useful();
 *           else return fail(weft_strerror(s), saddle_detail(x));
 *       }
 *   }
 *   if ((s = saddle_leave(x)) == WEFT_AGAIN) s = saddle_wait(x, NULL);
 *   saddle_close(x);                        // a neighbour that is lost is no error: saddle_stats counts
 *
 * The five callbacks are your network, or an adapter: their rules are "The transport contract", below; set net.wait,
 * too, if it can sleep. weft_transport_selftest tries yours. After WEFT_ERR_TIMEOUT one may wait again, as long again.
 *
 * (Where {sizeof d} draws a warning about missing initialisers: {0} in C, {} in C++, and d.struct_size = sizeof d.)
 *
 * ---- The verbs ----
 *
 * saddle_next carries a step on as far as it goes without waiting: WEFT_WANT_GRADIENT: compute the gradient of your
 * mini-batch's mean loss with the parameters w.at into w.into, and call saddle_next again, which takes it as there;
 * WEFT_AGAIN: neighbours are awaited, call it again later; WEFT_OK: the step is done, the next call begins another. All
 * gradients of a step are of the same mini-batch, without weight decay. An error (< 0) is explained by saddle_detail.
 * saddle_wait does the same and sleeps in the transport instead of saying WEFT_AGAIN; saddle_step takes a callback for
 * gradients. saddle_poll moves messages while you compute. Between WEFT_OK and the next saddle_next the parameters are
 * yours; until then they are lent. No verb allocates, prints or reads the environment; one object belongs to one thread
 * at a time. saddle_state tells which verbs are legal; a wrong one is WEFT_ERR_ORDER and changes nothing.
 *
 * ---- Which verb when ----
 *
 *                             fresh    idle     wanted   busy     left
 *   saddle_next               y        y        y        y        -
 *   saddle_wait               y        y        y        y        y
 *   saddle_step               y        y        y        y        -
 *   saddle_poll               y        y        y        y        y
 *   saddle_set_learning_rate  y        y        -        -        -
 *   saddle_leave              y        y        -        -        -
 *   saddle_peer_lost          y        y        y        y        -
 *   saddle_peer_up            y        y        y        y        -
 *   saddle_save               y        y        -        -        -
 *   saddle_save_to            y        y        -        -        -
 *   saddle_load               y        -        -        -        -
 *   saddle_load_from          y        -        -        -        -
 *
 * fresh: nothing has been called, or setters only. idle: a step is done. wanted: a verb has returned
 * WEFT_WANT_GRADIENT, and any of those that go on hands the gradient over. busy: it has returned WEFT_AGAIN. left:
 * saddle_leave is done (saddle_wait then says WEFT_OK). A lost neighbour makes no other state. A dash is
 * WEFT_ERR_ORDER and changes nothing; saddle_state tells the same in bits. The readers (stats, effective, detail,
 * fault, link, buffer, state) and saddle_close are legal in all; after close nothing is.
 *
 * ---- Threads and callbacks ----
 *
 * One object belongs to one thread at a time; any number of objects may live in a process, each with a `channel` of
 * its own on a shared transport. Transport callbacks and `trace` are called by the thread that called the verb, from
 * within it; the pool's parallel_for is, too, and its bodies run on the pool's threads and call nothing of yours. A
 * callback that calls a verb of its object gets WEFT_ERR_REENTRY; readers and verbs of other objects are allowed.
 * Callbacks must return: only `wait` may sleep. `weight` and `active` are called in the same way, and must give the
 * same answer for the same arguments.
 *
 * ---- Errors, and what to do ----
 *
 * WEFT_ERR_, all below 0; saddle_detail names peer, phase, field and both values.
 *
 *   ARGUMENT, ABI, MEMORY, OVERFLOW             a descriptor or an argument is wrong: detail.field names it, with what
 *                                               is expected and what was got; nothing has happened
 *   FLOAT_ENV, UNSUPPORTED                      of init: floats are not computed as they must be, or the setting does
 *                                               not exist here
 *   ORDER, REENTRY                              a dash of the table; a verb called from its own callback; nothing has
 *                                               happened
 *   TIMEOUT                                     nothing has moved for timeout_ns: poll on, or tell of a loss
 *                                               (saddle_peer_lost)
 *   MISMATCH, VERSION                           a neighbour has other settings, or another version of this header, and
 *                                               was refused; detail has both values; the others go on
 *   NONFINITE                                   by `guard`, and where the result of a step is not finite: see below
 *   CAPACITY                                    of save: detail.expected bytes are needed
 *   ARGUMENT, VERSION, CHECKSUM, MISMATCH       of load: no blob, a damaged one, or one of other settings; the object
 *                                               is as before
 *   none                                        a neighbour that is lost, says nonsense, or whose link fails: its link
 *                                               ends. stats.lost counts, saddle_link tells which; after nonsense
 *                                               saddle_fault says why
 *
 * ---- Variants: settings of one machine ----
 *
 *   variant        rho    cross-gradients  momentum     order
 *   SADDLE_Q       0.05   no               quasi-global adapt, then combine
 *   SADDLE_N       0.05   yes              local        combine while adapting
 *   SADDLE_QGM     0      no               quasi-global adapt, then combine
 *   SADDLE_NGC     0      yes              local        combine while adapting
 *   SADDLE_DPSGD   0      no               none         adapt, then combine
 *   SADDLE_DSGDM   0      no               local        adapt, then combine
 *
 * With g the (SAM) gradient, N-SADDLe: the weighted mean of those of the neighbourhood, plus weight_decay * x:
 *   momentum       local: v = beta v + g, u = v (nesterov: g + beta v)
 *                  quasi-global: m = beta mh + g, u = m (nesterov: g + beta m); after the step
 *                  mh = mu mh + (1 - mu) (x before - x after) / eta
 *   adapt, then combine (ATC)       gradient at x; h = x - eta u; x = h + gamma sum_j w_ij (h_j - h)
 *   combine, then adapt (CTA)       y = x + gamma sum_j w_ij (x_j - x); gradient at y; x = y - eta u
 *   combine while adapting (CWA)    gradient at x; x = x + gamma sum_j w_ij (x_j - x) - eta u
 * With cross-gradients, G(k; l) being that of k's data at l's model, and share = a:
 *   g = (1 - a) (w_ii G(i; i) + sum_j w_ij G(i; j)) + a (w_ii G(i; i) + sum_j w_ij G(j; i))
 * All of CTA is how the published codes go about it; in it G(i; i) is taken at y and G(i; j) at the x_j that came.
 *
 * ---- Compression ----
 *
 * `codec` makes the messages of models, and of cross-gradients unless gradient_codec says otherwise. What a codec takes
 * away of models is dealt with by `feedback`:
 *   SADDLE_DIFFERENCE (default; CHOCO) each worker keeps a public copy of its model that all its neighbours have, too,
 *                     and sends C(z - copy), which all add to it; copies are averaged
 *   SADDLE_FEEDBACK   (DeepSqueeze) sends C(z + e), e = z + e - C(z + e); what was sent is averaged. With weak codecs
 *                     the models stay far apart
 * Either way the mean of all workers goes where the mean of their steps takes it. Cross-gradients have an error memory
 * for each neighbour (gradient_feedback); a worker's own gradient is used as it is (compress_self: coded, too).
 *
 * ---- Extra memory ----
 *
 * In units of the model (d numbers), k neighbours: 2 (x + eps, and the gradient, later the sum of what comes), 1 for
 * momentum, 1 for feedback; CTA and CWA 1 more; compress_self 1 more; cross-gradients 1 more and k coded messages;
 * SADDLE_DIFFERENCE k more, with cross-gradients that are coded k more for their error memories. Pieces: k + 1 of
 * piece_bytes (k + 2 with SADDLE_DIFFERENCE). saddle_memory names every buffer.
 *
 * With P the bytes of the parameters (each tensor rounded up to 64) and p = min(piece_bytes, the largest tensor), on
 * 64-bit machines, for k neighbours: SADDLE_Q 3 P + (k + 1) p + 1.5 KB k + 2 KB, with a codec (k + 4) P + (k + 2) p;
 * SADDLE_N without one (k + 5) P + (k + 1) p.
 *
 * ---- On the wire ----
 *
 * A step sends each neighbour the model as the codec has it (weft_codec_bytes, piece by piece), with cross-gradients
 * twice as much, and a control message of 36 bytes. A link that is new in the middle of a run gets a whole public copy
 * with its first message (SADDLE_DIFFERENCE).
 *
 * ---- With your trainer ----
 *
 * optimiser         this is one: SGD with momentum, Nesterov, weight decay. saddle_set_learning_rate between steps.
 * one model only    where a network computes at one place only: `in_place`: w.at is always your params; what is to be
 *                   differentiated is put there, and the parameters are put back.
 * BatchNorm         statistics are not parameters, they stay local; at neighbours' models they do not fit.
 * 16-bit weights    refused: keep f32 (or f64) ones.
 * NaN, infinity     a gradient that is not finite is refused (WEFT_ERR_NONFINITE): compute it again and call
 *                   saddle_next. Or SADDLE_GUARD_ZERO: it counts as zeros, and is counted.
 *
 * ---- What is guaranteed when things fail ----
 *
 * Steps are in lock-step with the neighbours: a slow one holds you up (timeout_ns says so once and polling may go on).
 * A neighbour that is lost, or says nonsense, is no error: this step and all later ones go on without it. (Numbers that
 * are finite are not nonsense: a neighbour that sends 1e38 can spoil the result.) Metropolis weights are of who takes
 * part, each step anew: neighbours tell each other how many they have. So averaging is symmetric and doubly stochastic,
 * and the mean of all workers goes where their steps take it, in every step but those in which a link fails: there one
 * end may have averaged and the other not. A worker that comes again (or late) agrees with each neighbour on the step
 * from which on they exchange (saddle_peer_up on both ends); one that is behind all of them takes over the number of
 * the step. What error memories hold is kept for whoever comes next. A worker whose result is not finite says so, tells
 * its neighbours that it is out, and can only be closed. Where own weights leave a worker none for itself, and all
 * neighbours are lost in the middle of a step, that step has no gradient.
 *
 * ---- What is assumed of the host ----
 *
 * For each (peer, tag) the transport delivers exactly once, in order, and undamaged; a lost peer is an error or a call
 * of saddle_peer_lost; a worker that is declared lost sends no more (or as a newcomer). `now` does not go back. The
 * memory given, tensor lists and transport stay where they are until saddle_close. Float arithmetic is IEEE 754,
 * rounding to nearest, without flushing (checked at init). All of it is tested by weft_transport_selftest as far as a
 * test can tell.
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
#include "weft/trace.h"
#include "weft/link.h"
#include "weft/graph.h"
#include "weft/state.h"
#include "weft/codec.h"
/*==== API ====*/

#ifndef SADDLE_API
#ifdef SADDLE_STATIC
#define SADDLE_API static WEFT_UNUSED
#elif defined __cplusplus
#define SADDLE_API extern "C"
#else
#define SADDLE_API extern
#endif
#endif

typedef struct saddle saddle;

typedef enum saddle_variant {
    SADDLE_Q = 0,     /* Q-SADDLe */
    SADDLE_N = 1,     /* N-SADDLe */
    SADDLE_QGM = 2,   /* Q-SADDLe with rho = 0 */
    SADDLE_NGC = 3,   /* N-SADDLe with rho = 0 */
    SADDLE_DPSGD = 4, /* without momentum */
    SADDLE_DSGDM = 5  /* local momentum; with nesterov: DSGDm-N */
} saddle_variant;

typedef enum saddle_momentum {
    SADDLE_MOMENTUM_DEFAULT = 0, /* as the variant has it */
    SADDLE_MOMENTUM_NONE = 1,
    SADDLE_MOMENTUM_LOCAL = 2,
    SADDLE_MOMENTUM_GLOBAL = 3 /* quasi-global, two buffers' arithmetic: the form of the QGM paper */
} saddle_momentum;

typedef enum saddle_order {
    SADDLE_ORDER_DEFAULT = 0, /* as the variant has it */
    SADDLE_ATC = 1,           /* adapt, then combine; not with cross-gradients */
    SADDLE_CTA = 2,           /* combine, then adapt */
    SADDLE_CWA = 3            /* combine while adapting */
} saddle_order;

typedef enum saddle_feedback {
    SADDLE_FEEDBACK_DEFAULT = 0, /* WEFT_CODEC_IDENTITY: none; others: SADDLE_DIFFERENCE */
    SADDLE_NO_FEEDBACK = 1,      /* what a codec takes away is lost */
    SADDLE_DIFFERENCE = 2,
    SADDLE_FEEDBACK = 3
} saddle_feedback;

/* What a gradient that is not finite does. */
typedef enum saddle_guard {
    SADDLE_GUARD_REFUSE = 0, /* WEFT_ERR_NONFINITE; the next saddle_next takes it that it has been mended */
    SADDLE_GUARD_ZERO = 1    /* it counts as zeros */
} saddle_guard;

/* What workers that begin together make of each other's initial parameters. */
typedef enum saddle_initial {
    SADDLE_INITIAL_CHECK = 0, /* hashes must agree, else WEFT_ERR_MISMATCH with both, and the link is refused */
    SADDLE_INITIAL_KEEP = 1   /* everyone starts from its own */
} saddle_initial;

/* Do i and j exchange in this step? The same answer at both ends, and for (i, j) and (j, i). */
typedef int (*saddle_active_fn)(void *ctx, uint64_t step, uint32_t i, uint32_t j);

/* For WEFT_CODEC_QSGD: u in [0, 1) for each element of a tensor of the message to `peer` (WEFT_NO_RANK: the model, to
 * all; this worker's own rank: its own gradient), or NULL: drawn from the seed. To replay published runs. */
typedef const double *(*saddle_uniform_fn)(void *ctx, uint64_t step, uint32_t peer, size_t tensor);

/* Everything saddle_init wants to know. Fill struct_size, params, transport, graph and learning_rate; zero is the
 * default of every other field. Pointers are to the host's memory: the descriptor itself, gradient_codec and
 * group_of_tensor are copied; tensor list, transport, graph and pool must outlive the object. Fields marked (F) are the
 * same on all workers. */
typedef struct saddle_desc {
    size_t struct_size;              /* sizeof(saddle_desc) */
    weft_tensors params;             /* (F: shapes, types) parameters, in place; f32 and f64 */
    const weft_transport *transport; /* the host's network; its size is the graph's */
    const weft_graph *graph;         /* (F) connected */
    const weft_pool *pool;           /* the host's threads; NULL: serial */
    uint32_t channel;         /* the same on all workers: 0 .. WEFT_CHANNELS-1; objects sharing a transport differ */
    weft_isa isa;             /* force an instruction set; saddle_effective tells which one is in use */
    saddle_variant variant;   /* (F) */
    saddle_order order;       /* (F) */
    saddle_momentum momentum; /* (F) */
    double learning_rate;     /* eta > 0, of the first steps */
    double rho;               /* (F) radius of the climb; WEFT_ZERO: 0. Only for SADDLE_Q and SADDLE_N */
    double beta;              /* (F) momentum in [0, 1); default 0.9; WEFT_ZERO: 0 */
    double mu;                /* (F) of the quasi-global buffer, in [0, 1); default: beta; WEFT_ZERO: 0 */
    int nesterov;             /* (F) default on; WEFT_ZERO: off */
    double weight_decay;      /* (F) lambda >= 0 */
    double gamma;             /* (F) how far to go towards the average, in (0, 1]; default 1 */
    double share;             /* (F) of gradients that come, against those taken at neighbours' models, in [0, 1];
                                      * default 1; WEFT_ZERO: 0, nothing is sent but models */
    weft_mixing_rule mixing;  /* (F) */
    weft_weight_fn weight;    /* WEFT_OWN_WEIGHTS: symmetric, the rows' sums without i itself at most 1 */
    void *weight_ctx;
    saddle_active_fn active; /* graphs that change with the step: which edges count; NULL: all of them, always */
    void *active_ctx;
    weft_codec codec;                 /* (F) */
    saddle_feedback feedback;         /* (F) */
    const weft_codec *gradient_codec; /* (F) of cross-gradients; NULL: as codec */
    int gradient_feedback;            /* (F) default on; WEFT_ZERO: off */
    int compress_self;                /* (F) 1: its own gradient goes through the codec of cross-gradients, too */
    const uint32_t *group_of_tensor;  /* norm of the climb by group: of each tensor, 0 .. groups-1; NULL: one norm */
    uint32_t groups;                  /* 0 with group_of_tensor NULL */
    saddle_guard guard;
    saddle_initial initial;
    int join;     /* 1: comes later, or again, with parameters of its own, and takes over the number of the step */
    int in_place; /* 1: gradients are wanted at params only, which change meanwhile */
    uint64_t seed;
    saddle_uniform_fn uniform; /* may be NULL */
    void *uniform_ctx;
    uint32_t piece_bytes; /* (F) longest bulk message; default 262,144, at least 4,096; never above the transport's */
    uint64_t timeout_ns;  /* nothing moves for so long: WEFT_ERR_TIMEOUT, polling may go on; 0: never */
    weft_trace_fn trace;  /* may be NULL */
    void *trace_ctx;
#ifdef WEFT_CUDA
    const weft_cuda *cuda; /* NULL: params are host memory; else they, what is wanted and `uniform` are device memory */
#endif
} saddle_desc;

/* A gradient that is wanted. Both lists have the shapes and types of the parameters. */
typedef struct saddle_want {
    weft_tensors at;     /* the parameters to be differentiated at; read only */
    weft_tensors into;   /* the gradient: every element is to be written */
    uint32_t peer;       /* whose model this is (or is near): a neighbour's rank, or this worker's own */
    int climbed;         /* 1: the second one of SAM, at x + eps */
    uint32_t evaluation; /* of this step, from 0 */
} saddle_want;

/* Called by saddle_step. An error is handed through; the gradient is then still wanted. */
typedef weft_status (*saddle_gradient_fn)(void *ctx, const saddle_want *want);

/* Counters since saddle_init (those up to `traffic` as loaded, if so). */
typedef struct saddle_stats_t {
    uint64_t steps;       /* completed */
    uint64_t evaluations; /* gradients asked for */
    uint64_t exchanges;   /* models of neighbours averaged in */
    uint64_t skipped;     /* neighbours that were there but did not take part to the end of a step, steps counted */
    uint64_t nonfinite;   /* gradients that were not finite */
    weft_traffic traffic;
    uint64_t lost;       /* links of this worker lost */
    uint64_t faults;     /* malformed messages and failed callbacks */
    uint32_t neighbours; /* links that are up now */
} saddle_stats_t;

/* Bits of saddle_state: which verbs are legal now. close, stats, detail and the like always are. */
enum {
    SADDLE_MAY_NEXT = 1,  /* saddle_next, saddle_wait, saddle_step */
    SADDLE_MAY_SET = 2,   /* between steps: saddle_save, saddle_leave, setters; the parameters are the host's */
    SADDLE_MAY_GIVE = 4,  /* a gradient is wanted */
    SADDLE_MAY_POLL = 8,  /* something is in progress (saddle_poll is legal at any time) */
    SADDLE_MAY_LOAD = 16, /* saddle_load: after init, before anything else */
    SADDLE_MAY_LINK = 32  /* saddle_peer_lost, saddle_peer_up */
};

/* Bytes that saddle_init needs for this descriptor; 0 if the descriptor is refused (report->detail says why).
 * `report`, if not NULL, is overwritten with every buffer by name. */
#define saddle_memory(desc, report) saddle_memory_abi((desc), (report), sizeof(saddle_desc), WEFT_ABI)
SADDLE_API size_t saddle_memory_abi(const saddle_desc *desc, weft_memory_report *report, size_t desc_size,
                                    uint32_t abi);

/* Makes *out inside `memory` (the caller's, any alignment, at least saddle_memory bytes; it must stay until
 * saddle_close). Sends nothing. Errors: ARGUMENT, ABI, MEMORY, OVERFLOW, UNSUPPORTED, FLOAT_ENV; *out is then NULL and
 * *detail, if not NULL, says why. */
#define saddle_init(out, desc, memory, bytes)                                                                          \
    saddle_init_abi((out), (desc), (memory), (bytes), NULL, sizeof(saddle_desc), WEFT_ABI)
#define saddle_init_detail(out, desc, memory, bytes, detail)                                                           \
    saddle_init_abi((out), (desc), (memory), (bytes), (detail), sizeof(saddle_desc), WEFT_ABI)
SADDLE_API weft_status saddle_init_abi(saddle **out, const saddle_desc *desc, void *memory, size_t bytes,
                                       weft_detail *detail, size_t desc_size, uint32_t abi);

/* One step, as described above: WEFT_WANT_GRADIENT (*want is filled in), WEFT_AGAIN, WEFT_OK, or an error. The first
 * one says hello to the neighbours; it waits for all of them that are not known to be lost. NONFINITE: the parameters
 * (at the beginning of a step) or a gradient; after a result that is not finite (field "diverged") no further step is
 * possible, and the parameters are those of the last one. */
SADDLE_API weft_status saddle_next(saddle *x, saddle_want *want);

/* saddle_next until something other than WEFT_AGAIN comes, sleeping in the transport's `wait` where there is one. After
 * saddle_leave, want may be NULL. */
SADDLE_API weft_status saddle_wait(saddle *x, saddle_want *want);

/* A whole step, gradients by callback: WEFT_OK, WEFT_AGAIN (call again), or an error. The callback calls no verb. */
SADDLE_API weft_status saddle_step(saddle *x, saddle_gradient_fn gradient, void *ctx);

/* Moves messages, while a gradient is computed or between steps. WEFT_WANT_GRADIENT: one is wanted, still or now
 * (saddle_next tells which); WEFT_AGAIN: a step or a good-bye is in progress; WEFT_OK: nothing is. */
SADDLE_API weft_status saddle_poll(saddle *x);

/* Of the steps from now on; above 0, since quasi-global momentum divides by it. */
SADDLE_API weft_status saddle_set_learning_rate(saddle *x, double learning_rate);

/* Says good-bye after the last step: the others go on without this worker. Poll until WEFT_OK, then close. */
SADDLE_API weft_status saddle_leave(saddle *x);

/* The host has learnt that `rank`, or the link to it, is gone, or is usable again. Both ends of a link that comes back
 * need the second. Legal at any time; those that are not neighbours are no news. */
SADDLE_API weft_status saddle_peer_lost(saddle *x, uint32_t rank);
SADDLE_API weft_status saddle_peer_up(saddle *x, uint32_t rank);

/* Everything but the parameters that shapes what follows, as one blob (versioned, checksummed, endian-neutral), between
 * steps: momentum, feedback, the number of the step. *bytes is set to the length; with buf NULL only that. Parameters
 * are the host's to save. Load: into a fresh object of the same descriptor, rank and graph. If all workers are saved
 * after the same step and loaded, the run goes on as if it had never stopped, bit for bit. With `join` a worker comes
 * back alone: momentum and error memory are as they were saved, the number of the step is the others', and public
 * copies go whole. Hostile blobs give an error, the object is then as before. */
SADDLE_API weft_status saddle_save(saddle *x, void *buf, size_t capacity, size_t *bytes);
SADDLE_API weft_status saddle_load(saddle *x, const void *buf, size_t bytes);
/* The same through callbacks (state.h), for blobs that no memory has room for. `write` NULL: only the length. */
SADDLE_API weft_status saddle_save_to(saddle *x, weft_write_fn write, void *ctx, size_t *bytes);
SADDLE_API weft_status saddle_load_from(saddle *x, weft_read_fn read, void *ctx, size_t bytes);

/* What saddle_buffer shows. */
typedef enum saddle_buffer_kind {
    SADDLE_OF_MOMENTUM = 0,
    SADDLE_OF_MODEL = 1, /* error memory (SADDLE_FEEDBACK) or public copy (SADDLE_DIFFERENCE) of this worker's model */
    SADDLE_OF_COPY = 2,  /* a neighbour's public copy, as it is here */
    SADDLE_OF_GRADIENT = 3 /* error memory of the gradients sent to a neighbour; own rank: of its own gradient */
} saddle_buffer_kind;

/* Reading. The descriptor comes back with defaults filled in. */
SADDLE_API void saddle_stats(const saddle *x, saddle_stats_t *out);
SADDLE_API void saddle_effective(const saddle *x, saddle_desc *out);
SADDLE_API const weft_detail *saddle_detail(const saddle *x); /* never NULL, but for x == NULL */
SADDLE_API const weft_detail *saddle_fault(const saddle *x);  /* of the last link that nonsense ended; likewise */
SADDLE_API uint32_t saddle_state(const saddle *x);
SADDLE_API weft_link_state saddle_link(const saddle *x, uint32_t rank); /* DOWN for whoever is no neighbour */
/* A buffer of this tensor's type and shape, to be looked at only; NULL: there is none. */
SADDLE_API const void *saddle_buffer(const saddle *x, saddle_buffer_kind kind, uint32_t peer, size_t tensor);

/* Cancels every message under way, and puts the parameters back. Afterwards the memory is the host's again and no verb
 * is legal. Needs nobody's cooperation. */
SADDLE_API void saddle_close(saddle *x);
/*==== IMPLEMENTATION ====*/

enum {
    SADDLE_IDLE = 0,  /* between steps */
    SADDLE_OPENING,   /* the first step: waits for neighbours */
    SADDLE_WANTING,   /* the host computes a gradient */
    SADDLE_READY,     /* has a model to be sent, once it is agreed with whom */
    SADDLE_MODELS,    /* exchanges models */
    SADDLE_GRADIENTS, /* exchanges gradients */
    SADDLE_SPOILT,    /* the result was not finite */
    SADDLE_LEAVING,
    SADDLE_LEFT,
    SADDLE_CLOSED
};
enum { SADDLE_PROPOSE = 1, SADDLE_ACCEPT = 2, SADDLE_ROUND = 3 }; /* letters */
enum { SADDLE_ROUND_BYTES = 16 };                                 /* payload: u64 step, u32 neighbours, u32 whole */
enum { SADDLE_NEWS = 2 };                                         /* a neighbour is at most one step ahead */
enum { SADDLE_FIELDS = 22 };
enum { SADDLE_ROUNDS = 64 };     /* of a pump */
#define SADDLE_MAGIC 0x73616464u /* "sadd" */
#define SADDLE_OWN UINT32_MAX    /* in place of a slot: this worker's own model */

/* A model that a neighbour has announced. */
typedef struct saddle_news {
    uint64_t step;
    uint32_t degree; /* with how many it exchanges in that step */
    int whole;       /* its public copy comes instead of a difference */
} saddle_news;

/* Where a piece of the parameters is; index: counted from 0. */
typedef struct saddle_cursor {
    size_t tensor, at, n, index;
} saddle_cursor;

/* What there is to know of one neighbour. */
typedef struct saddle_edge {
    /* agreement: the lower rank proposes the first step in which they exchange, the higher one may name a later one */
    int agreed, pending, propose_due, accept_due;
    uint64_t from;
    int first;  /* they have not exchanged since then */
    int barred; /* the host says that it is gone */
    int said;   /* good-bye */
    /* the step under way */
    int out, in; /* it gets this worker's model; its model is averaged in */
    int letter_due, whole;
    double weight;
    int made; /* there is a cross-gradient for it */
    /* what comes */
    uint32_t heard;
    saddle_news news[SADDLE_NEWS];
    int here;           /* the piece is in */
    size_t piece_bytes; /* its length */
    unsigned char *piece;
    unsigned char *store; /* a coded message: the neighbour's model, then the gradient for it */
    size_t *length;       /* of its pieces */
    size_t stored, sent;
    unsigned char *copy, *kept; /* its public copy; the error memory of its gradients */
} saddle_edge;

/* What is looked at often stands first: its offsets are short in the code of most machines. */
struct saddle {
    uint32_t magic;
    int busy, state, opened, loaded, cross, sends_gradients;
    uint32_t me;
    saddle_edge *edge; /* one a slot */
    /* buffers of the model's size; NULL where there is none */
    unsigned char *near_, *gradient, *mixed, *sum, *momentum, *kept, *self_kept;
    unsigned char *out; /* a piece that goes */
    uint64_t step;      /* completed */
    double rate, last_rate;
    saddle_cursor cursor;
    uint32_t degree; /* neighbours that the step began with */
    uint32_t slot;   /* whose model the gradient wanted is taken at */
    weft_links net;
    saddle_desc desc; /* effective */
    /* the step */
    int published;              /* this worker's model of the step under way goes, or has gone, out */
    int weighed, coded;         /* the weights are known; the piece is coded and sent */
    int short_;                 /* a neighbour was lost after the weights were known */
    int climbed, swapped, told; /* told: the host has been given what is wanted */
    unsigned char *at;          /* the buffer to differentiate at; NULL: the parameters */
    unsigned char *sending;     /* what is sent: a buffer, or NULL: the parameters */
    unsigned char *whole;       /* a piece of a public copy that goes */
    size_t out_bytes, whole_bytes, store_bytes;
    double own_weight;
    weft_codec_scale scale;
    uint32_t evaluation;
    uint64_t since_ns;
    int timing;
    const weft_codec_kernels *codecs;
    const weft_kernels *kernels;
#ifdef WEFT_CUDA
    weft_gpu gpu;
    weft_codec_kernels on_gpu; /* codecs, of its table */
#endif
    const uint32_t *neighbour;
    weft_codec gradient_codec;
    weft_detail detail;
    uint64_t fingerprint[SADDLE_FIELDS], initial_hash;
    size_t *place; /* of each tensor in a buffer of the model's size */
    weft_tensor *at_list, *into_list;
    uint32_t *group_of;
    double *norm;        /* one a group */
    double *weight;      /* one a neighbour and one */
    const void **source; /* likewise */
    saddle_stats_t stats;
};

WEFT_FN WEFT_NOINLINE weft_status saddle_fail(saddle *x, weft_status s, uint32_t peer, const char *field,
                                              uint64_t expected, uint64_t got) {
    return weft_link_say(&x->net, &x->detail, s, peer, field, expected, got);
}

WEFT_FN void saddle_phase(saddle *x, int state, const char *phase) {
    x->state = state;
    x->net.phase = phase;
    x->net.moved = 1;
}

/* ---- Arithmetic: buffers of the model's size ---- */

/* Tensor i in a buffer; NULL: the parameters. */
WEFT_FN void *saddle_at(const saddle *x, unsigned char *buffer, size_t i) {
    return buffer ? (void *)(buffer + x->place[i]) : x->desc.params.tensor[i].data;
}

/* out = a * p + b * q. Returns how many elements of it are not finite. */
WEFT_FN WEFT_NOINLINE uint64_t saddle_sum(const saddle *x, double a, unsigned char *p, double b, unsigned char *q,
                                          unsigned char *out) {
    uint64_t bad = 0;
    size_t i;
    for (i = 0; i < x->desc.params.count; i++) {
        const weft_tensor *t = &x->desc.params.tensor[i];
        const void *source[2];
        double w[2];
        source[0] = saddle_at(x, p, i);
        source[1] = saddle_at(x, q, i);
        w[0] = a;
        w[1] = b;
        bad += weft_run_weighted_sum(x->kernels, x->desc.pool, t->dtype, t->count, 2, w, source, saddle_at(x, out, i));
    }
    return bad;
}

/* What has no weight is not read. */
WEFT_FN void saddle_scale(const saddle *x, double a, unsigned char *p, unsigned char *out) {
    saddle_sum(x, a, p, 0.0, p, out);
}

WEFT_FN void saddle_copy(const saddle *x, unsigned char *from, unsigned char *to) {
    saddle_scale(x, 1.0, from, to);
}

WEFT_FN void saddle_zero(const saddle *x, unsigned char *p) {
    saddle_scale(x, 0.0, p, p);
}

WEFT_FN uint64_t saddle_nonfinite(const saddle *x, unsigned char *p) {
    uint64_t bad = 0;
    size_t i;
    for (i = 0; i < x->desc.params.count; i++) {
        const weft_tensor *t = &x->desc.params.tensor[i];
        bad += weft_run_count_nonfinite(x->kernels, x->desc.pool, t->dtype, t->count, saddle_at(x, p, i));
    }
    return bad;
}

/* The parameters and a buffer change places. */
WEFT_FN void saddle_swap(const saddle *x, unsigned char *buffer) {
    unsigned char hold[WEFT_GROUP * sizeof(double)];
    size_t i, at, m;
    for (i = 0; i < x->desc.params.count; i++) {
        const weft_tensor *t = &x->desc.params.tensor[i];
        const size_t bytes = t->count * weft_dtype_bytes(t->dtype);
        unsigned char *a = (unsigned char *)t->data, *b = (unsigned char *)saddle_at(x, buffer, i);
#ifdef WEFT_CUDA
        if (x->kernels->gpu) {
            weft_gpu_exchange(x->kernels->gpu, a, b, bytes);
            continue;
        }
#endif
        for (at = 0; at < bytes; at += m) {
            m = bytes - at < sizeof hold ? bytes - at : sizeof hold;
            memcpy(hold, a + at, m);
            memcpy(a + at, b + at, m);
            memcpy(b + at, hold, m);
        }
    }
}

/* near_ = at + rho g / (|g| + 1e-12), |g| over the whole model or by group. SAM, eq. 2; the 1e-12 as its codes have
 * it. */
WEFT_FN void saddle_climb(saddle *x) {
    const weft_tensors *p = &x->desc.params;
    size_t i;
    for (i = 0; i < x->desc.groups; i++) x->norm[i] = 0;
    for (i = 0; i < p->count; i++)
        x->norm[x->group_of[i]] += weft_run_sqnorm(x->kernels, x->desc.pool, p->tensor[i].dtype, p->tensor[i].count,
                                                   saddle_at(x, x->gradient, i));
    for (i = 0; i < p->count; i++) {
        const void *source[2];
        double w[2];
        source[0] = saddle_at(x, x->at, i);
        source[1] = saddle_at(x, x->gradient, i);
        w[0] = 1.0;
        w[1] = x->desc.rho / (sqrt(x->norm[x->group_of[i]]) + 1e-12);
        weft_run_weighted_sum(x->kernels, x->desc.pool, p->tensor[i].dtype, p->tensor[i].count, 2, w, source,
                              saddle_at(x, x->near_, i));
    }
}

/* ---- Pieces: what one bulk message holds, elements of one tensor ---- */

WEFT_FN int saddle_has_copies(const saddle_desc *d) {
    return d->feedback == SADDLE_DIFFERENCE;
}

/* How many elements of a tensor go into a piece. */
WEFT_FN size_t saddle_piece(const saddle_desc *d, const weft_codec *c, int model, const weft_tensor *t) {
    const size_t each = weft_dtype_bytes(t->dtype);
    size_t block, n;
    if (t->count <= WEFT_CODEC_BLOCK) return t->count;
    block = weft_codec_bytes(c, t->dtype, t->count, WEFT_CODEC_BLOCK);
    if (model && saddle_has_copies(d) && block < WEFT_CODEC_BLOCK * each) block = WEFT_CODEC_BLOCK * each;
    n = d->piece_bytes / block;
    return t->count / WEFT_CODEC_BLOCK < n ? t->count : n * WEFT_CODEC_BLOCK;
}

/* The next one; 0: there is none. */
WEFT_FN int saddle_next_piece(const saddle *x, int model, saddle_cursor *c) {
    const weft_tensors *p = &x->desc.params;
    size_t n;
    c->index += c->n != 0;
    c->at += c->n;
    c->n = 0;
    while (c->tensor < p->count && c->at == p->tensor[c->tensor].count) {
        c->tensor++;
        c->at = 0;
    }
    if (c->tensor == p->count) return 0;
    n = saddle_piece(&x->desc, model ? &x->desc.codec : &x->gradient_codec, model, &p->tensor[c->tensor]);
    c->n = p->tensor[c->tensor].count - c->at < n ? p->tensor[c->tensor].count - c->at : n;
    return 1;
}

/* Codes a piece of `data` (a buffer; NULL: the parameters) into `to`, and brings `kept` up to date. peer: as the host's
 * uniforms are asked for. Returns its length; SIZE_MAX: data is not finite. */
WEFT_FN size_t saddle_encode(saddle *x, const saddle_cursor *c, const weft_codec *codec, weft_codec_form form,
                             unsigned char *data, unsigned char *kept, uint32_t peer, unsigned char *to,
                             size_t capacity) {
    const weft_tensor *t = &x->desc.params.tensor[c->tensor];
    weft_detail why = weft_detail_none();
    /* a whole copy goes between the pieces of a model */
    weft_codec_scale none, *scale = codec->kind == WEFT_CODEC_IDENTITY ? &none : &x->scale;
    weft_codec_job j;
    uint64_t bad = 0;
    size_t bytes = 0;
    memset(&j, 0, sizeof j);
    j.codec = codec;
    j.form = form;
    j.dtype = t->dtype;
    j.count = t->count;
    j.data = saddle_at(x, data, c->tensor);
    j.kept = form == WEFT_CODEC_PLAIN ? NULL : saddle_at(x, kept, c->tensor);
    j.key = weft_codec_key(x->desc.seed, x->step + 1, (uint64_t)x->me << 32 | peer, c->tensor);
    if (x->desc.uniform && codec->kind == WEFT_CODEC_QSGD)
        j.uniform = x->desc.uniform(x->desc.uniform_ctx, x->step + 1, peer, c->tensor);
    if ((c->at == 0 || scale == &none) && weft_codec_measure(x->codecs, &j, scale, &why) != WEFT_OK) return SIZE_MAX;
    if (weft_codec_encode(x->codecs, &j, scale, c->at, c->n, to, capacity, &bytes, &bad, &why) != WEFT_OK || bad)
        return SIZE_MAX;
    return bytes;
}

/* out = C or out = out + weight * C, for a piece of a buffer. */
WEFT_FN weft_status saddle_decode(const saddle *x, const saddle_cursor *c, const weft_codec *codec,
                                  const unsigned char *from, size_t bytes, int add, double weight, unsigned char *out,
                                  weft_detail *d) {
    const weft_tensor *t = &x->desc.params.tensor[c->tensor];
    return weft_codec_decode_chunk(x->codecs, codec, t->dtype, t->count, c->at, c->n, from, bytes, add, weight,
                                   saddle_at(x, out, c->tensor), d);
}

/* The first element of a piece. */
WEFT_FN unsigned char *saddle_piece_at(const saddle *x, unsigned char *buffer, const saddle_cursor *c) {
    return (unsigned char *)saddle_at(x, buffer, c->tensor) +
           c->at * weft_dtype_bytes(x->desc.params.tensor[c->tensor].dtype);
}

/* ---- Agreement with a neighbour ---- */

/* The next step of which nothing has been sent. */
WEFT_FN uint64_t saddle_unsent(const saddle *x) {
    return x->step + 1 + (x->published != 0);
}

/* Both ends know from which step on they exchange. */
WEFT_FN void saddle_agree(saddle_edge *e, uint64_t from) {
    e->from = from;
    e->agreed = e->first = 1;
    e->pending = 0;
}

WEFT_FN void saddle_post(saddle *x, uint32_t k) {
    saddle_edge *e = &x->edge[k];
    while (x->net.link[k].state == WEFT_LINK_UP && !x->net.link[k].failing && !e->said &&
           weft_link_room(&x->net.link[k])) {
        unsigned char payload[SADDLE_ROUND_BYTES];
        weft_header h;
        uint32_t bytes = 8;
        memset(&h, 0, sizeof h);
        h.kind = WEFT_LINK_LETTER;
        if (e->propose_due) {
            e->from = saddle_unsent(x);
            h.step = SADDLE_PROPOSE;
            e->propose_due = 0;
        } else if (e->accept_due) {
            h.step = SADDLE_ACCEPT;
            e->accept_due = 0;
        } else if (e->letter_due) {
            h.step = SADDLE_ROUND;
            bytes = SADDLE_ROUND_BYTES;
            weft_put32(payload + 8, x->degree);
            weft_put32(payload + 12, (uint32_t)e->whole);
            e->letter_due = 0;
        } else
            return;
        weft_put64(payload, h.step == SADDLE_ROUND ? x->step + 1 : e->from);
        weft_link_post(&x->net, k, &h, payload, bytes);
    }
}

/* ---- What the links bring ---- */

/* Goes on, with all others, from a state that all have saved? (Who joins comes alone, whatever it has loaded.) */
WEFT_FN int saddle_resumes(const saddle *x) {
    return x->loaded && !x->initial_hash && !x->desc.join;
}

WEFT_FN void saddle_on_hello(void *self, uint32_t slot, weft_header *h, unsigned char *payload) {
    const saddle *x = (const saddle *)self;
    int i;
    (void)slot;
    h->round = x->initial_hash;
    h->arg0 = (uint64_t)saddle_resumes(x);
    for (i = 0; i < SADDLE_FIELDS; i++) weft_put64(payload + 8 * i, x->fingerprint[i]);
    h->payload = 8 * SADDLE_FIELDS;
}

WEFT_FN const char *saddle_field_name(int i) {
#ifdef WEFT_NO_STRINGS
    (void)i;
    return "";
#else
    static const char *const names[SADDLE_FIELDS] = {"algorithm",
                                                     "version",
                                                     "params.count",
                                                     "params (elements)",
                                                     "params (shapes and types)",
                                                     "graph.workers",
                                                     "graph.edges",
                                                     "graph (its edges)",
                                                     "order",
                                                     "momentum",
                                                     "rho",
                                                     "beta",
                                                     "mu",
                                                     "nesterov",
                                                     "weight_decay",
                                                     "gamma",
                                                     "share",
                                                     "mixing",
                                                     "codec, feedback",
                                                     "gradient_codec, gradient_feedback, compress_self",
                                                     "piece_bytes",
                                                     "variant"};
    return names[i];
#endif
}

WEFT_FN weft_status saddle_on_up(void *self, uint32_t slot, const weft_header *h, const unsigned char *payload,
                                 weft_detail *d) {
    saddle *x = (saddle *)self;
    saddle_edge *e = &x->edge[slot];
    int i;
    if (h->payload != 8 * SADDLE_FIELDS)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("hello"), 8 * SADDLE_FIELDS, h->payload);
    for (i = 0; i < SADDLE_FIELDS; i++)
        if (weft_get64(payload + 8 * i) != x->fingerprint[i])
            return weft_refuse(d, WEFT_ERR_MISMATCH, saddle_field_name(i), x->fingerprint[i],
                               weft_get64(payload + 8 * i));
    if (h->round && x->initial_hash && h->round != x->initial_hash)
        return weft_refuse(d, WEFT_ERR_MISMATCH, WEFT_TEXT("hash of the initial parameters"), x->initial_hash,
                           h->round);
    if ((saddle_resumes(x) && h->round) || (x->initial_hash && h->arg0)) /* who comes anew says so: join */
        return weft_refuse(d, WEFT_ERR_MISMATCH, WEFT_TEXT("goes on from a saved state"), !x->initial_hash, h->arg0);
    weft_link_trace(&x->net, WEFT_EVENT_VIEW, x->net.link[slot].rank, x->step, 0);
    if (x->me < x->neighbour[slot]) e->pending = e->propose_due = 1;
    return WEFT_OK;
}

WEFT_FN void saddle_on_down(void *self, uint32_t slot, int left) {
    saddle *x = (saddle *)self;
    saddle_edge *e = &x->edge[slot];
    (void)left;
    if (e->in && (x->sends_gradients || x->state == SADDLE_MODELS)) { /* later nothing more is expected of it */
        x->stats.skipped++;
        x->short_ |= x->weighed;
        e->in = 0;
    }
    e->agreed = e->pending = e->propose_due = e->accept_due = e->first = e->said = 0;
    e->out = e->letter_due = e->here = 0;
    e->heard = 0;
}

WEFT_FN weft_status saddle_on_letter(void *self, uint32_t slot, const weft_header *h, const unsigned char *payload,
                                     weft_detail *d) {
    saddle *x = (saddle *)self;
    saddle_edge *e = &x->edge[slot];
    const int lower = x->me < x->neighbour[slot];
    saddle_news *n = &e->news[e->heard < SADDLE_NEWS ? e->heard : 0];
    uint64_t step;
    if (h->step < SADDLE_PROPOSE || h->step > SADDLE_ROUND || h->piece || h->round)
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter.kind"), SADDLE_ROUND, h->step);
    if (h->payload != (h->step == SADDLE_ROUND ? SADDLE_ROUND_BYTES : 8))
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter.payload"), SADDLE_ROUND_BYTES, h->payload);
    step = weft_get64(payload);
    /* what is taken over can be saved, and goes on for long */
    if (step == 0 || step > UINT64_MAX / (h->step == SADDLE_ROUND ? 8 : 16))
        return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter: step"), UINT64_MAX / 16, step);
    switch (h->step) {
    case SADDLE_PROPOSE:
        if (lower || e->agreed) break;
        saddle_agree(e, step > saddle_unsent(x) ? step : saddle_unsent(x));
        e->accept_due = 1;
        return WEFT_OK;
    case SADDLE_ACCEPT:
        if (!lower || !e->pending || e->propose_due || step < e->from) break;
        saddle_agree(e, step);
        return WEFT_OK;
    default:
        if (!e->agreed || step < e->from || step <= x->step || e->heard == SADDLE_NEWS ||
            (e->heard && step <= e->news[0].step))
            break;
        n->step = step;
        n->degree = weft_get32(payload + 8);
        n->whole = (int)(weft_get32(payload + 12) & 1u);
        if (n->degree == 0 || n->degree > weft_graph_degree(x->desc.graph, x->neighbour[slot]) ||
            weft_get32(payload + 12) > (saddle_has_copies(&x->desc) ? 1u : 0u))
            return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter: neighbours, or flags"), 0, n->degree);
        e->heard++;
        return WEFT_OK;
    }
    return weft_refuse(d, WEFT_ERR_PROTOCOL, WEFT_TEXT("a letter that nobody waits for"), e->from, step);
}

/* Is a model still to come that has been announced? */
WEFT_FN int saddle_is_busy(void *self, uint32_t slot) {
    return ((const saddle *)self)->edge[slot].heard != 0;
}

/* ---- What comes in bulk ---- */

WEFT_FN void saddle_forget_news(saddle_edge *e) {
    e->news[0] = e->news[1];
    e->heard--;
}

/* The most bytes that a piece comes in. */
WEFT_FN size_t saddle_capacity(const saddle *x, int model, const saddle_cursor *c) {
    const weft_tensor *t = &x->desc.params.tensor[c->tensor];
    const size_t each = weft_dtype_bytes(t->dtype);
    size_t bytes = weft_codec_bytes(model ? &x->desc.codec : &x->gradient_codec, t->dtype, t->count, c->n);
    return model && saddle_has_copies(&x->desc) && bytes < c->n * each ? c->n * each : bytes;
}

/* A piece from a neighbour: 1 when it is here. */
WEFT_FN int saddle_fetch(saddle *x, uint32_t k, int model, const saddle_cursor *c) {
    weft_link *l = &x->net.link[k];
    if (!l->in_active) {
        WEFT_GPU_SETTLE(*x->kernels); /* the last one has been read, and what is sent next has been written */
        weft_link_fetch(&x->net, k, x->edge[k].piece, saddle_capacity(x, model, c));
        l->in_shorter = 1;
        if (!l->in_active) return 0; /* the link is down */
    }
    if (weft_link_fetched(&x->net, k) != WEFT_OK) return 0;
    x->edge[k].piece_bytes = l->in_bytes;
    return 1;
}

/* ---- Gradients ---- */

WEFT_FN void saddle_ask(saddle *x, uint32_t slot, int climbed, unsigned char *at) {
    size_t i;
    x->slot = slot;
    x->told = 0;
    x->climbed = climbed;
    x->at = at;
    if (x->desc.in_place && at) {
        saddle_swap(x, at);
        x->swapped = 1;
        at = NULL;
    }
    for (i = 0; i < x->desc.params.count; i++) {
        x->at_list[i] = x->into_list[i] = x->desc.params.tensor[i];
        x->at_list[i].data = saddle_at(x, at, i);
        x->into_list[i].data = saddle_at(x, x->gradient, i);
    }
    x->stats.evaluations++;
    saddle_phase(x, SADDLE_WANTING, WEFT_TEXT("a gradient is wanted"));
}

WEFT_FN void saddle_fill_want(saddle *x, saddle_want *w) {
    x->told = 1;
    w->at.tensor = x->at_list;
    w->into.tensor = x->into_list;
    w->at.count = w->into.count = x->desc.params.count;
    w->peer = x->slot == SADDLE_OWN ? x->me : x->neighbour[x->slot];
    w->climbed = x->climbed;
    w->evaluation = x->evaluation;
}

/* Codes the gradient for a neighbour (or itself, in place) and remembers what that takes away. 0: it does not fit the
 * codec. */
WEFT_FN int saddle_code_gradient(saddle *x, uint32_t slot) {
    saddle_edge *e = slot == SADDLE_OWN ? NULL : &x->edge[slot];
    const weft_codec_form form = x->desc.gradient_feedback ? WEFT_CODEC_FEEDBACK : WEFT_CODEC_PLAIN;
    weft_detail why = weft_detail_none();
    saddle_cursor c;
    memset(&c, 0, sizeof c);
    if (e) e->stored = 0;
    while (saddle_next_piece(x, 0, &c)) {
        const size_t room = saddle_capacity(x, 0, &c);
        unsigned char *to = e ? e->store + e->stored : x->out;
        const size_t capacity = e && x->store_bytes - e->stored < room ? x->store_bytes - e->stored : room;
        size_t bytes;
        if (capacity < room) to = x->out; /* what is left of the store is enough, but not for the worst of pieces */
        bytes = saddle_encode(x, &c, &x->gradient_codec, form, x->gradient, e ? e->kept : x->self_kept,
                              e ? x->neighbour[slot] : x->me, to, room);
        if (bytes == SIZE_MAX || (e && bytes > capacity)) return 0;
        if (!e) {
            saddle_decode(x, &c, &x->gradient_codec, to, bytes, 0, 1.0, x->gradient, &why);
            continue;
        }
        if (to == x->out) weft_data_copy(WEFT_GPU_OF(x->kernels), e->store + e->stored, to, bytes);
        e->length[c.index] = bytes;
        if (x->desc.share < 1)
            saddle_decode(x, &c, &x->gradient_codec, to, bytes, 1, (1 - x->desc.share) * e->weight, x->sum, &why);
        e->stored += bytes;
    }
    return 1;
}

/* A neighbour's model as it came, into near_. */
WEFT_FN void saddle_unpack(saddle *x, uint32_t k) {
    saddle_edge *e = &x->edge[k];
    weft_detail why = weft_detail_none();
    saddle_cursor c;
    size_t at = 0;
    memset(&c, 0, sizeof c);
    for (; saddle_next_piece(x, 1, &c); at += e->length[c.index])
        saddle_decode(x, &c, &x->desc.codec, e->store + at, e->length[c.index], 0, 1.0, x->near_, &why);
}

/* ---- The step ---- */

WEFT_FN void saddle_spoil(saddle *x) {
    uint32_t k;
    for (k = 0; k < x->net.count; k++) {
        weft_link_down(&x->net, k, 0);
        x->net.link[k].bye_due = 1;
    }
    saddle_phase(x, SADDLE_SPOILT, WEFT_TEXT("diverged"));
}

/* The result is in near_. Quasi-global momentum follows it (QGM, algorithm 1, line 9). */
WEFT_FN void saddle_commit(saddle *x) {
    const saddle_desc *d = &x->desc;
    uint32_t k;
    if (d->momentum == SADDLE_MOMENTUM_GLOBAL && d->order != SADDLE_CTA) {
        saddle_sum(x, 1.0, NULL, -1.0, x->near_, x->gradient);
        saddle_sum(x, d->mu, x->momentum, (1 - d->mu) / x->rate, x->gradient, x->momentum);
    }
    saddle_copy(x, x->near_, NULL);
    x->step++;
    x->published = 0;
    x->last_rate = x->rate;
    x->stats.steps++;
    x->net.round = x->step;
    weft_link_trace(&x->net, WEFT_EVENT_COMMITTED, WEFT_NO_RANK, x->step, (uint64_t)x->degree + 1);
    for (k = 0; k < x->net.count; k++) x->edge[k].in = 0;
    saddle_phase(x, SADDLE_IDLE, WEFT_TEXT("between steps"));
}

/* g is what goes into momentum: the gradient, or the mean of those of the neighbourhood. */
WEFT_FN void saddle_adapt(saddle *x, unsigned char *g) {
    const saddle_desc *d = &x->desc;
    unsigned char *u = g, *base = d->order == SADDLE_ATC ? NULL : x->mixed;
    if (d->weight_decay > 0) saddle_sum(x, 1.0, g, d->weight_decay, d->order == SADDLE_CTA ? x->mixed : NULL, g);
    if (d->momentum == SADDLE_MOMENTUM_LOCAL) {
        saddle_sum(x, d->beta, x->momentum, 1.0, g, x->momentum);
        u = x->momentum;
    } else if (d->momentum == SADDLE_MOMENTUM_GLOBAL) {
        saddle_sum(x, d->beta, x->momentum, 1.0, g, x->near_);
        u = x->near_;
    }
    if (u != g && d->nesterov) {
        saddle_sum(x, 1.0, g, d->beta, u, x->near_);
        u = x->near_;
    }
    if (saddle_sum(x, 1.0, base, -x->rate, u, x->near_)) {
        saddle_spoil(x);
    } else if (d->order == SADDLE_ATC) {
        x->sending = x->near_;
        saddle_phase(x, SADDLE_READY, WEFT_TEXT("agreeing with neighbours"));
    } else {
        saddle_commit(x);
    }
}

WEFT_FN void saddle_begin_gradients(saddle *x);

/* The cross-gradient at the next neighbour's model from slot k on; if there is none, on with the step. */
WEFT_FN void saddle_cross(saddle *x, uint32_t k) {
    while (k < x->net.count && !x->edge[k].in) k++;
    if (k == x->net.count) {
        saddle_begin_gradients(x);
        return;
    }
    if (!saddle_has_copies(&x->desc)) saddle_unpack(x, k);
    saddle_ask(x, k, 0, saddle_has_copies(&x->desc) ? x->edge[k].copy : x->near_);
}

/* The (SAM) gradient at this slot's model is there. */
WEFT_FN void saddle_have(saddle *x) {
    if (x->slot == SADDLE_OWN) {
        if (!x->cross) {
            saddle_adapt(x, x->gradient);
            return;
        }
        if (x->desc.compress_self && !saddle_code_gradient(x, SADDLE_OWN)) {
            saddle_spoil(x);
            return;
        }
        saddle_scale(x, x->own_weight, x->gradient, x->sum);
        saddle_cross(x, 0);
        return;
    }
    if (x->edge[x->slot].in) { /* it is still there */
        if (!x->sends_gradients) {
            saddle_sum(x, 1.0, x->sum, x->edge[x->slot].weight, x->gradient, x->sum);
        } else if (!saddle_code_gradient(x, x->slot)) {
            saddle_spoil(x);
            return;
        }
        x->edge[x->slot].made = 1;
    }
    saddle_cross(x, x->slot + 1);
}

/* The host says that the gradient is there. */
WEFT_FN weft_status saddle_given(saddle *x) {
    const uint64_t bad = saddle_nonfinite(x, x->gradient);
    if (bad) {
        x->stats.nonfinite++;
        if (x->desc.guard == SADDLE_GUARD_REFUSE)
            return saddle_fail(x, WEFT_ERR_NONFINITE, x->slot == SADDLE_OWN ? x->me : x->neighbour[x->slot],
                               WEFT_TEXT("gradient"), 0, bad);
        saddle_zero(x, x->gradient);
    }
    if (x->swapped) saddle_swap(x, x->at);
    x->swapped = 0;
    x->evaluation++;
    if (x->desc.rho > 0 && !x->climbed && !bad) {
        saddle_climb(x);
        saddle_ask(x, x->slot, 1, x->near_);
    } else {
        saddle_have(x);
    }
    return WEFT_OK;
}

/* ---- Models ---- */

WEFT_FN int saddle_all_sent(saddle *x) {
    uint32_t k, left = 0;
    for (k = 0; k < x->net.count; k++) left += !weft_link_sent(&x->net, k);
    return !left;
}

WEFT_FN void saddle_begin_models(saddle *x) {
    uint64_t s = UINT64_MAX;
    uint32_t k;
    for (k = 0; k < x->net.count; k++)
        if (x->edge[k].agreed && x->edge[k].from < s) s = x->edge[k].from;
    /* all who are there wait for it in a later step: it takes over the number */
    if (s < UINT64_MAX && s > x->step + 1) x->step = s - 1;
    s = x->step + 1;
    x->degree = 0;
    x->published = 1;
    x->weighed = x->coded = x->short_ = 0;
    for (k = 0; k < x->net.count; k++) {
        saddle_edge *e = &x->edge[k];
        const weft_link *l = &x->net.link[k];
        e->made = e->here = 0;
        e->out = e->in = e->letter_due =
            l->state == WEFT_LINK_UP && !l->failing && e->agreed && e->from <= s &&
            (!x->desc.active || x->desc.active(x->desc.active_ctx, s, x->me, x->neighbour[k]));
        if (!e->out) continue;
        e->whole = e->first && s > 1 && saddle_has_copies(&x->desc);
        e->stored = 0;
        x->degree++;
    }
    memset(&x->cursor, 0, sizeof x->cursor);
    saddle_next_piece(x, 1, &x->cursor);
    saddle_phase(x, SADDLE_MODELS, WEFT_TEXT("exchanging models"));
    weft_link_trace(&x->net, WEFT_EVENT_ROUND_BEGUN, WEFT_NO_RANK, s, x->degree);
}

/* Do all neighbours take part with the same step? Then the weights are known. */
WEFT_FN int saddle_weigh(saddle *x) {
    uint32_t k;
    double rest = 1;
    if (x->weighed) return 1;
    for (k = 0; k < x->net.count; k++) {
        saddle_edge *e = &x->edge[k];
        if (!e->in) continue;
        if (!e->heard) return 0;
        if (e->news[0].step != x->step + 1)
            weft_link_fault(&x->net, k, WEFT_ERR_PROTOCOL, WEFT_TEXT("letter: step"), x->step + 1, e->news[0].step);
    }
    for (k = 0; k < x->net.count; k++) {
        saddle_edge *e = &x->edge[k];
        if (!e->in) continue;
        if (x->desc.mixing == WEFT_METROPOLIS)
            e->weight = 1.0 / (1.0 + (double)(x->degree > e->news[0].degree ? x->degree : e->news[0].degree));
        else if (x->desc.mixing == WEFT_UNIFORM)
            e->weight = 1.0 / (1.0 + (double)x->desc.graph->most_degree);
        else
            e->weight = x->desc.weight(x->desc.weight_ctx, x->me, x->neighbour[k]);
        rest -= e->weight;
    }
    x->own_weight = rest;
    x->weighed = 1;
    return 1;
}

/* Codes the piece, and sends it to all. 0: it is not finite. */
WEFT_FN int saddle_send_model(saddle *x) {
    static const weft_codec_form form[4] = {WEFT_CODEC_PLAIN, WEFT_CODEC_PLAIN, WEFT_CODEC_DIFFERENCE,
                                            WEFT_CODEC_FEEDBACK};
    const saddle_cursor *c = &x->cursor;
    uint32_t k, whole = 0;
    x->coded = 1;
    x->out_bytes = saddle_encode(x, c, &x->desc.codec, form[x->desc.feedback], x->sending, x->kept, WEFT_NO_RANK,
                                 x->out, saddle_capacity(x, 1, c));
    if (x->out_bytes == SIZE_MAX) return 0;
    for (k = 0; k < x->net.count; k++) whole += x->edge[k].out && x->edge[k].whole;
    if (whole) {
        const weft_codec plain = weft_codec_identity();
        x->whole_bytes = saddle_encode(x, c, &plain, WEFT_CODEC_PLAIN, x->kept, NULL, WEFT_NO_RANK, x->whole,
                                       saddle_capacity(x, 1, c));
        if (x->whole_bytes == SIZE_MAX) return 0;
    }
    for (k = 0; k < x->net.count; k++) {
        if (!x->edge[k].out) continue;
        if (x->edge[k].whole)
            weft_link_send(&x->net, k, x->whole, x->whole_bytes);
        else
            weft_link_send(&x->net, k, x->out, x->out_bytes);
    }
    return 1;
}

/* A neighbour's piece of its model: onto its copy, or the sum. 0: it is none. */
WEFT_FN int saddle_take_model(saddle *x, uint32_t k) {
    saddle_edge *e = &x->edge[k];
    const saddle_cursor *c = &x->cursor;
    const int copies = saddle_has_copies(&x->desc), whole = copies && e->news[0].whole;
    const weft_codec plain = weft_codec_identity();
    weft_detail why = weft_detail_none();
    weft_status s = saddle_decode(x, c, whole ? &plain : &x->desc.codec, e->piece, e->piece_bytes, !whole,
                                  copies ? 1.0 : e->weight, copies ? e->copy : x->gradient, &why);
    if (s < 0 || (x->cross && !copies && x->store_bytes - e->stored < e->piece_bytes)) {
        weft_link_fault(&x->net, k, s < 0 ? s : WEFT_ERR_PROTOCOL, s < 0 ? why.field : WEFT_TEXT("length of a model"),
                        why.expected, why.got);
        return 0;
    }
    if (!x->cross || copies) return 1;
    if (e->piece_bytes) weft_data_copy(WEFT_GPU_OF(x->kernels), e->store + e->stored, e->piece, e->piece_bytes);
    e->length[c->index] = e->piece_bytes;
    e->stored += e->piece_bytes;
    return 1;
}

/* All neighbours' pieces are here, and this worker's own: gradient = sum_j w_ij q_j - (sum_j w_ij) q_i. */
WEFT_FN void saddle_take_models(saddle *x) {
    const saddle_cursor *c = &x->cursor;
    const weft_tensor *t = &x->desc.params.tensor[c->tensor];
    const int copies = saddle_has_copies(&x->desc);
    weft_detail why = weft_detail_none();
    double given = 0;
    size_t n = 0;
    uint32_t k;
    if (!copies)
        weft_data_zero(WEFT_GPU_OF(x->kernels), saddle_piece_at(x, x->gradient, c), c->n * weft_dtype_bytes(t->dtype));
    for (k = 0; k < x->net.count; k++) {
        saddle_edge *e = &x->edge[k];
        if (!e->in || !e->here || !saddle_take_model(x, k)) continue;
        e->here = 0;
        given += e->weight;
        if (!copies) continue;
        x->source[n] = saddle_piece_at(x, e->copy, c);
        x->weight[n++] = e->weight;
    }
    if (copies) {
        x->source[n] = saddle_piece_at(x, x->kept, c);
        x->weight[n++] = -given;
        weft_run_weighted_sum(x->kernels, x->desc.pool, t->dtype, c->n, n, x->weight, x->source,
                              saddle_piece_at(x, x->gradient, c));
    } else {
        saddle_decode(x, c, &x->desc.codec, x->out, x->out_bytes, 1, -given, x->gradient, &why);
    }
}

/* What has been exchanged makes the mixed model. */
WEFT_FN void saddle_combine(saddle *x, uint32_t partners) {
    const saddle_desc *d = &x->desc;
    unsigned char *to = d->order == SADDLE_CTA || d->order == SADDLE_ATC ? x->near_ : x->mixed;
    uint64_t bad = 0;
    if (partners)
        bad = saddle_sum(x, 1.0, x->sending, d->gamma, x->gradient, to);
    else if (to != x->sending)
        saddle_copy(x, x->sending, to);
    if (bad) {
        saddle_spoil(x);
        return;
    }
    if (d->order == SADDLE_ATC) {
        saddle_commit(x);
        return;
    }
    if (d->order == SADDLE_CTA) {
        if (!x->stats.steps) { /* there is no last step whose model mixed holds */
            saddle_copy(x, NULL, x->mixed);
            x->last_rate = x->rate;
        }
        if (d->momentum == SADDLE_MOMENTUM_GLOBAL) { /* with the step size of the step that it looks back at */
            saddle_sum(x, 1.0, x->mixed, -1.0, x->near_, x->gradient);
            saddle_sum(x, d->mu, x->momentum, (1 - d->mu) / x->last_rate, x->gradient, x->momentum);
        }
        saddle_copy(x, x->near_, x->mixed);
    }
    saddle_ask(x, SADDLE_OWN, 0, d->order == SADDLE_CTA ? x->mixed : NULL);
}

/* Are the pieces of all who take part here? */
WEFT_FN int saddle_all_here(saddle *x, int model) {
    uint32_t k, missing = 0;
    for (k = 0; k < x->net.count; k++) {
        saddle_edge *e = &x->edge[k];
        if (e->in && !e->here) e->here = saddle_fetch(x, k, model, &x->cursor);
        missing += e->in && !e->here;
    }
    return !missing;
}

WEFT_FN void saddle_models(saddle *x) {
    uint32_t k, partners = 0;
    for (;;) {
        const int more = x->cursor.n != 0 && x->degree;
        if (more && !x->coded) {
            if (!saddle_all_sent(x)) return;
            if (!saddle_send_model(x)) {
                saddle_spoil(x);
                return;
            }
        }
        if (!saddle_weigh(x)) return;
        if (!more) break;
        if (!saddle_all_here(x, 1)) return;
        saddle_take_models(x);
        saddle_next_piece(x, 1, &x->cursor);
        x->coded = 0;
    }
    for (k = 0; k < x->net.count; k++)
        if (x->edge[k].letter_due) return;       /* it tells the number of this step */
    if (x->cross && !saddle_all_sent(x)) return; /* gradients are coded where models were */
    for (k = 0; k < x->net.count; k++) {
        if (!x->edge[k].in) continue;
        partners++;
        x->edge[k].first = 0;
        if (!x->sends_gradients) saddle_forget_news(&x->edge[k]);
    }
    x->stats.exchanges += partners;
    saddle_combine(x, x->degree);
}

/* ---- Gradients of the neighbourhood ---- */

/* What a piece of the sum is multiplied with, since a neighbour was lost: the weight that is in it becomes 1. */
WEFT_FN double saddle_undo(const saddle *x, int received) {
    double w = x->own_weight;
    uint32_t k;
    for (k = 0; k < x->net.count; k++) {
        const saddle_edge *e = &x->edge[k];
        if (e->made) w += (1 - x->desc.share) * e->weight;
        if (received && e->in && e->here) w += x->desc.share * e->weight;
    }
    return w > 0 ? 1 / w : 0;
}

WEFT_FN void saddle_begin_gradients(saddle *x) {
    uint32_t k;
    if (!x->sends_gradients) {
        if (x->short_) saddle_scale(x, saddle_undo(x, 0), x->sum, x->sum);
        saddle_adapt(x, x->sum);
        return;
    }
    for (k = 0; k < x->net.count; k++) {
        x->edge[k].here = 0;
        x->edge[k].sent = 0;
    }
    memset(&x->cursor, 0, sizeof x->cursor);
    saddle_next_piece(x, 0, &x->cursor);
    x->coded = 0;
    saddle_phase(x, SADDLE_GRADIENTS, WEFT_TEXT("exchanging gradients"));
}

WEFT_FN void saddle_gradients(saddle *x) {
    const saddle_cursor *c = &x->cursor;
    uint32_t k;
    for (; c->n; saddle_next_piece(x, 0, &x->cursor), x->coded = 0) {
        if (!x->coded) {
            if (!saddle_all_sent(x)) return;
            for (k = 0; k < x->net.count; k++) {
                saddle_edge *e = &x->edge[k];
                if (!e->in) continue;
                weft_link_send(&x->net, k, e->store + e->sent, e->length[c->index]);
                e->sent += e->length[c->index];
            }
            x->coded = 1;
        }
        if (!saddle_all_here(x, 0)) return;
        for (k = 0; k < x->net.count; k++) {
            saddle_edge *e = &x->edge[k];
            weft_detail why = weft_detail_none();
            weft_status s;
            if (!e->in) continue;
            s = saddle_decode(x, c, &x->gradient_codec, e->piece, e->piece_bytes, 1, x->desc.share * e->weight, x->sum,
                              &why);
            if (s < 0) weft_link_fault(&x->net, k, s, why.field, why.expected, why.got);
        }
        if (x->short_) {
            unsigned char *piece = saddle_piece_at(x, x->sum, c);
            weft_run_scale(x->kernels, x->desc.pool, x->desc.params.tensor[c->tensor].dtype, c->n, saddle_undo(x, 1),
                           piece, piece);
        }
        for (k = 0; k < x->net.count; k++) x->edge[k].here = 0;
    }
    if (!saddle_all_sent(x)) return; /* the next models are coded where these are */
    for (k = 0; k < x->net.count; k++)
        if (x->edge[k].in) saddle_forget_news(&x->edge[k]);
    saddle_adapt(x, x->sum);
}

/* ---- Driving ---- */

WEFT_FN void saddle_first(saddle *x) {
    x->evaluation = 0;
    x->sending = NULL;
    if (x->desc.order == SADDLE_ATC)
        saddle_ask(x, SADDLE_OWN, 0, NULL);
    else
        saddle_phase(x, SADDLE_READY, WEFT_TEXT("agreeing with neighbours"));
}

/* Is there a neighbour with whom it is not settled yet when it takes part? */
WEFT_FN int saddle_unsettled(const saddle *x) {
    uint32_t k;
    for (k = 0; k < x->net.count; k++) {
        const saddle_edge *e = &x->edge[k];
        const weft_link_state s = x->net.link[k].state;
        if (x->state == SADDLE_OPENING && (s == WEFT_LINK_OPENING || (s == WEFT_LINK_UP && !e->agreed))) return 1;
        if (e->pending && (e->propose_due || e->from <= x->step + 1)) return 1;
    }
    return 0;
}

WEFT_FN void saddle_leave_poll(saddle *x) {
    uint32_t k, left = 0;
    if (!saddle_all_sent(x)) return;
    for (k = 0; k < x->net.count; k++) {
        weft_link *l = &x->net.link[k];
        saddle_edge *e = &x->edge[k];
        if (l->state == WEFT_LINK_UP && !e->said && !e->propose_due && !e->accept_due) {
            e->said = l->bye_due = 1;
            x->net.moved = 1;
        }
        /* whoever has not said hello may be gone; but before the first step all are waited for */
        left += (l->state == WEFT_LINK_OPENING && (!x->stats.steps || l->theirs)) ||
                (l->state == WEFT_LINK_UP && (!e->said || l->bye_due));
    }
    if (left || !weft_links_flushed(&x->net)) return;
    weft_links_close(&x->net);
    saddle_phase(x, SADDLE_LEFT, WEFT_TEXT("gone"));
}

WEFT_FN void saddle_pump(saddle *x) {
    int round;
    uint32_t k;
    for (round = 0; round < SADDLE_ROUNDS; round++) {
        x->net.moved = 0;
        for (k = 0; k < x->net.count; k++) {
            weft_link_pump(&x->net, k);
            saddle_post(x, k);
        }
        if (x->state == SADDLE_OPENING && !saddle_unsettled(x)) saddle_first(x);
        if (x->state == SADDLE_READY && !saddle_unsettled(x)) saddle_begin_models(x);
        if (x->state == SADDLE_MODELS) saddle_models(x);
        if (x->state == SADDLE_GRADIENTS) saddle_gradients(x);
        if (x->state == SADDLE_LEAVING) saddle_leave_poll(x);
        if (!x->net.moved) break;
    }
}

/* Nothing has moved for timeout_ns: said once a time-out, and nothing is lost. */
WEFT_FN weft_status saddle_deadline(saddle *x) {
    uint64_t now;
    if (!x->desc.timeout_ns) return WEFT_AGAIN;
    now = x->net.net->now(x->net.net->ctx);
    if (x->net.progress || !x->timing) {
        x->net.progress = 0;
        x->timing = 1;
        x->since_ns = now;
    }
    if (now - x->since_ns < x->desc.timeout_ns) return WEFT_AGAIN;
    x->timing = 0;
    return saddle_fail(x, WEFT_ERR_TIMEOUT, WEFT_NO_RANK, WEFT_TEXT("timeout_ns"), x->desc.timeout_ns,
                       now - x->since_ns);
}

WEFT_FN weft_status saddle_drive(saddle *x) {
    saddle_pump(x);
    if (x->net.refused) {
        weft_status s = x->net.refused;
        x->detail = x->net.fault;
        x->net.refused = WEFT_OK;
        return s;
    }
    switch (x->state) {
    case SADDLE_IDLE:
    case SADDLE_LEFT: return WEFT_OK;
    case SADDLE_WANTING: return WEFT_WANT_GRADIENT;
    case SADDLE_SPOILT: return saddle_fail(x, WEFT_ERR_NONFINITE, x->me, WEFT_TEXT("diverged"), 0, 1);
    default: return saddle_deadline(x);
    }
}

/* ---- Descriptor and memory ---- */

/* A number where zero is the default and WEFT_ZERO asks for zero. */
WEFT_FN int saddle_number(double *v, double otherwise, double most, int below) {
    if (*v <= 0 && *v >= 0)
        *v = otherwise;
    else if (*v <= (double)WEFT_ZERO && *v >= (double)WEFT_ZERO)
        *v = 0;
    return *v >= 0 && (below ? *v < most : *v <= most);
}

WEFT_FN weft_status saddle_wrong(weft_detail *d, const char *field, double most, double got) {
    return weft_refuse(d, WEFT_ERR_ARGUMENT, field, weft_double_bits(most), weft_double_bits(got));
}

WEFT_FN int saddle_is_cross(const saddle_desc *d) {
    return d->variant == SADDLE_N || d->variant == SADDLE_NGC;
}

/* Fills in what the variant has as its defaults. */
WEFT_FN weft_status saddle_check_rule(saddle_desc *o, weft_codec *gradient, weft_detail *d) {
    static const saddle_momentum momentum[6] = {SADDLE_MOMENTUM_GLOBAL, SADDLE_MOMENTUM_LOCAL, SADDLE_MOMENTUM_GLOBAL,
                                                SADDLE_MOMENTUM_LOCAL,  SADDLE_MOMENTUM_NONE,  SADDLE_MOMENTUM_LOCAL};
    const double given = o->rho;
    int cross;
    if ((uint64_t)o->variant > SADDLE_DSGDM)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.variant"), SADDLE_DSGDM, (uint64_t)o->variant);
    cross = saddle_is_cross(o);
    if ((uint64_t)o->order > SADDLE_CWA || (cross && o->order == SADDLE_ATC))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.order"), SADDLE_CWA, (uint64_t)o->order);
    if (o->order == SADDLE_ORDER_DEFAULT) o->order = cross ? SADDLE_CWA : SADDLE_ATC;
    if ((uint64_t)o->momentum > SADDLE_MOMENTUM_GLOBAL)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.momentum"), SADDLE_MOMENTUM_GLOBAL,
                           (uint64_t)o->momentum);
    if (o->momentum == SADDLE_MOMENTUM_DEFAULT) o->momentum = momentum[o->variant];
    if (!(o->learning_rate > 0) || !weft_is_finite(o->learning_rate))
        return saddle_wrong(d, WEFT_TEXT("desc.learning_rate"), 1, o->learning_rate);
    if (!saddle_number(&o->rho, o->variant == SADDLE_Q || o->variant == SADDLE_N ? 0.05 : 0, 1e30, 0) ||
        (o->variant != SADDLE_Q && o->variant != SADDLE_N && o->rho > 0))
        return saddle_wrong(d, WEFT_TEXT("desc.rho"), o->variant == SADDLE_Q || o->variant == SADDLE_N ? 1e30 : 0,
                            given);
    if (!saddle_number(&o->beta, 0.9, 1, 1)) return saddle_wrong(d, WEFT_TEXT("desc.beta"), 1, o->beta);
    if (!saddle_number(&o->mu, o->beta, 1, 1)) return saddle_wrong(d, WEFT_TEXT("desc.mu"), 1, o->mu);
    if (o->nesterov < WEFT_ZERO || o->nesterov > 1)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.nesterov"), 1, (uint64_t)(int64_t)o->nesterov);
    o->nesterov = o->nesterov != WEFT_ZERO;
    if (!(o->weight_decay >= 0) || !weft_is_finite(o->weight_decay))
        return saddle_wrong(d, WEFT_TEXT("desc.weight_decay"), 1, o->weight_decay);
    if (!(o->gamma >= 0 && o->gamma <= 1)) return saddle_wrong(d, WEFT_TEXT("desc.gamma"), 1, o->gamma);
    if (!(o->gamma > 0)) o->gamma = 1;
    if (!saddle_number(&o->share, 1, 1, 0)) return saddle_wrong(d, WEFT_TEXT("desc.share"), 1, o->share);
    if ((uint64_t)o->mixing > WEFT_OWN_WEIGHTS || (o->mixing == WEFT_OWN_WEIGHTS && !o->weight))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.mixing"), WEFT_OWN_WEIGHTS, (uint64_t)o->mixing);
    if (weft_codec_check(&o->codec, d) != WEFT_OK) return d->status;
    if ((uint64_t)o->feedback > SADDLE_FEEDBACK)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.feedback"), SADDLE_FEEDBACK, (uint64_t)o->feedback);
    if (o->feedback == SADDLE_FEEDBACK_DEFAULT)
        o->feedback = o->codec.kind == WEFT_CODEC_IDENTITY ? SADDLE_NO_FEEDBACK : SADDLE_DIFFERENCE;
    if (o->active && o->feedback == SADDLE_DIFFERENCE) /* copies would miss what is sent without them */
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.active (with SADDLE_DIFFERENCE)"), 0, 1);
    *gradient = weft_codec_identity();
    if (cross && o->share > 0) *gradient = o->gradient_codec ? *o->gradient_codec : o->codec;
    if (weft_codec_check(gradient, d) != WEFT_OK) return d->status;
    if (o->gradient_feedback < WEFT_ZERO || o->gradient_feedback > 1)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.gradient_feedback"), 1,
                           (uint64_t)(int64_t)o->gradient_feedback);
    o->gradient_feedback = o->gradient_feedback != WEFT_ZERO && gradient->kind != WEFT_CODEC_IDENTITY;
    if (o->compress_self < 0 || o->compress_self > 1 || (o->compress_self && gradient->kind == WEFT_CODEC_IDENTITY))
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.compress_self"), gradient->kind != WEFT_CODEC_IDENTITY,
                           (uint64_t)(int64_t)o->compress_self);
    return WEFT_OK;
}

WEFT_FN weft_status saddle_check(const saddle_desc *in, size_t desc_size, uint32_t abi, saddle_desc *out,
                                 weft_codec *gradient, weft_detail *d) {
    weft_status s;
    uint64_t most;
    size_t i;
    if (!in) return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc"), 1, 0);
    if (abi != WEFT_ABI) return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("header version"), WEFT_ABI, abi);
    if (desc_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("sizeof(saddle_desc)"), sizeof *in, desc_size);
    if (in->struct_size != sizeof *in)
        return weft_refuse(d, WEFT_ERR_ABI, WEFT_TEXT("desc.struct_size"), sizeof *in, in->struct_size);
    *out = *in;
    if ((s = WEFT_GPU_CHECK(in, d)) != WEFT_OK) return s;
    if ((s = weft_transport_check(in->transport, d)) != WEFT_OK) return s;
    if ((s = weft_tensors_check(&in->params, 0, d)) != WEFT_OK) return s;
    if ((s = weft_graph_check(in->graph, in->transport->size, d)) != WEFT_OK) return s;
    if (in->channel >= WEFT_CHANNELS)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.channel"), WEFT_CHANNELS - 1, in->channel);
    if (!weft_kernels_select(in->isa, 0))
        return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("desc.isa"), 0, (uint64_t)in->isa);
    out->isa = weft_isa_resolve(in->isa);
    if ((s = saddle_check_rule(out, gradient, d)) != WEFT_OK) return s;
    if (!in->group_of_tensor && in->groups)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.groups (without group_of_tensor)"), 0, in->groups);
    if (!in->group_of_tensor) out->groups = 1;
    for (i = 0; i < in->params.count; i++) {
        const weft_tensor *t = &in->params.tensor[i];
        if (t->dtype != WEFT_F32 && t->dtype != WEFT_F64)
            return weft_refuse(d, WEFT_ERR_UNSUPPORTED, WEFT_TEXT("params.dtype"), WEFT_F64, (uint64_t)t->dtype);
        if (weft_codec_bytes(&in->codec, t->dtype, t->count, t->count) == SIZE_MAX ||
            weft_codec_bytes(gradient, t->dtype, t->count, t->count) == SIZE_MAX)
            return weft_refuse(d, WEFT_ERR_OVERFLOW, WEFT_TEXT("params.count"), UINT32_MAX, t->count);
        if (in->group_of_tensor && in->group_of_tensor[i] >= in->groups)
            return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.group_of_tensor"), in->groups,
                               in->group_of_tensor[i]);
    }
    if ((uint64_t)in->guard > SADDLE_GUARD_ZERO)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.guard"), SADDLE_GUARD_ZERO, (uint64_t)in->guard);
    if ((uint64_t)in->initial > SADDLE_INITIAL_KEEP)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("desc.initial"), SADDLE_INITIAL_KEEP, (uint64_t)in->initial);
    out->join = in->join != 0;
    out->in_place = in->in_place != 0;
    out->piece_bytes = in->piece_bytes ? in->piece_bytes : 262144;
    most = in->transport->max_message_bytes;
    if (most && most < out->piece_bytes) out->piece_bytes = (uint32_t)most;
    if (out->piece_bytes < 4096) /* a block of any codec */
        return weft_refuse(d, most && most < 4096 ? WEFT_ERR_UNSUPPORTED : WEFT_ERR_ARGUMENT,
                           WEFT_TEXT("desc.piece_bytes, transport.max_message_bytes"), 4096, out->piece_bytes);
    if (in->timeout_ns && !in->transport->now)
        return weft_refuse(d, WEFT_ERR_ARGUMENT, WEFT_TEXT("transport.now (for a deadline)"), 1, 0);
    return WEFT_OK;
}

/* Bytes of a coded model or gradient, its longest piece, and pieces. */
WEFT_FN size_t saddle_measure(const saddle_desc *d, const weft_codec *c, int model, size_t *longest, size_t *pieces) {
    size_t i, total = 0;
    for (i = 0; i < d->params.count; i++) {
        const weft_tensor *t = &d->params.tensor[i];
        const size_t n = saddle_piece(d, c, model, t), each = weft_dtype_bytes(t->dtype);
        size_t bytes;
        if (!n) continue;
        bytes = weft_codec_bytes(c, t->dtype, t->count, n);
        /* no more than 16 bytes an element: does not overflow, since codecs have refused such tensors */
        total +=
            c->kind == WEFT_CODEC_TOPK
                ? weft_codec_bytes(c, t->dtype, t->count, t->count)
                : t->count / n * bytes + (t->count % n ? weft_codec_bytes(c, t->dtype, t->count, t->count % n) : 0);
        if (model && saddle_has_copies(d) && bytes < n * each) bytes = n * each;
        if (bytes > *longest) *longest = bytes;
        *pieces += t->count / n + (t->count % n != 0);
    }
    return total;
}

/* NULL: there is none, or this only measures. */
WEFT_FN WEFT_NOINLINE unsigned char *saddle_take(weft_layout *l, const char *name, size_t count, size_t each) {
    return count ? (unsigned char *)weft_layout_data(l, name, count, each) : NULL;
}

WEFT_FN saddle *saddle_lay_out(weft_layout *l, const saddle_desc *d, const weft_codec *gradient, saddle *tmp) {
    const uint32_t degree = weft_graph_degree(d->graph, d->transport->rank);
    const size_t tensors = d->params.count;
    const int cross = saddle_is_cross(d), copies = saddle_has_copies(d);
    saddle *made = (saddle *)weft_layout_take(l, WEFT_TEXT("saddle"), 1, sizeof(saddle));
    saddle *x = made ? made : tmp;
    unsigned char *pieces, *stores, *neighbours, *residuals;
    size_t i, model = 0, longest = 0, models = 0, gradients = 0, store = 0, other, *lengths;
    uint32_t k;
    memset(x, 0, sizeof *x);
    x->net.link = (weft_link *)weft_layout_take(l, WEFT_TEXT("links, one a neighbour"), degree, sizeof(weft_link));
    x->edge = (saddle_edge *)weft_layout_take(l, WEFT_TEXT("neighbours"), degree, sizeof(saddle_edge));
    x->place = (size_t *)weft_layout_take(l, WEFT_TEXT("places of tensors"), tensors, sizeof(size_t));
    x->at_list = (weft_tensor *)weft_layout_take(l, WEFT_TEXT("tensors of a want, at"), tensors, sizeof(weft_tensor));
    x->into_list =
        (weft_tensor *)weft_layout_take(l, WEFT_TEXT("tensors of a want, into"), tensors, sizeof(weft_tensor));
    x->group_of = (uint32_t *)weft_layout_take(l, WEFT_TEXT("groups of tensors"), tensors, sizeof(uint32_t));
    x->norm = (double *)weft_layout_take(l, WEFT_TEXT("norms"), d->groups, sizeof(double));
    x->weight = (double *)weft_layout_take(l, WEFT_TEXT("weights"), (size_t)degree + 1, sizeof(double));
    x->source = (const void **)weft_layout_take(l, WEFT_TEXT("sources"), (size_t)degree + 1, sizeof(void *));
    for (i = 0; i < tensors; i++) {
        const weft_tensor *t = &d->params.tensor[i];
        size_t bytes = t->count * weft_dtype_bytes(t->dtype);
        if (made) x->place[i] = model;
        if (!weft_add_size(bytes, WEFT_ALIGNMENT - 1, &bytes) ||
            !weft_add_size(model, bytes / WEFT_ALIGNMENT * WEFT_ALIGNMENT, &model))
            l->overflow = 1;
    }
    if (model > SIZE_MAX / 32) l->overflow = 1; /* then no sum below overflows */
    if (l->overflow) return made;
    if (cross && !copies)
        store = saddle_measure(d, &d->codec, 1, &longest, &models);
    else
        saddle_measure(d, &d->codec, 1, &longest, &models);
    if (cross && d->share > 0) {
        other = saddle_measure(d, gradient, 0, &longest, &gradients);
        if (other > store) store = other;
    }
    if (gradients > models) models = gradients;
    longest = (longest + WEFT_ALIGNMENT - 1) / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
    store = (store + WEFT_ALIGNMENT - 1) / WEFT_ALIGNMENT * WEFT_ALIGNMENT;
    x->store_bytes = store;
    x->momentum = saddle_take(l, WEFT_TEXT("momentum"), d->momentum != SADDLE_MOMENTUM_NONE, model);
    x->near_ = saddle_take(l, WEFT_TEXT("x + eps, then x - eta u"), 1, model);
    x->gradient = saddle_take(l, WEFT_TEXT("gradient, then sum of models"), 1, model);
    x->mixed = saddle_take(l, WEFT_TEXT("mixed model"), d->order != SADDLE_ATC, model);
    x->sum = saddle_take(l, WEFT_TEXT("sum of gradients"), (size_t)cross, model);
    x->kept =
        saddle_take(l, WEFT_TEXT("residual or public copy of the model"), d->feedback >= SADDLE_DIFFERENCE, model);
    x->self_kept =
        saddle_take(l, WEFT_TEXT("residual of its own gradient"), d->compress_self && d->gradient_feedback, model);
    x->out = saddle_take(l, WEFT_TEXT("a piece that goes"), degree || d->compress_self, longest);
    x->whole = saddle_take(l, WEFT_TEXT("a piece of a whole copy that goes"), degree && copies, longest);
    pieces = saddle_take(l, WEFT_TEXT("pieces that come"), degree, longest);
    stores = saddle_take(l, WEFT_TEXT("coded messages"), store ? degree : 0, store);
    lengths = cross
                  ? (size_t *)weft_layout_take(l, WEFT_TEXT("lengths of their pieces"), degree, models * sizeof(size_t))
                  : NULL;
    neighbours = saddle_take(l, WEFT_TEXT("public copies of neighbours"), copies ? degree : 0, model);
    residuals = saddle_take(l, WEFT_TEXT("residuals of gradients, one a neighbour"),
                            cross && d->gradient_feedback ? degree : 0, model);
    WEFT_GPU_LAYOUT(l, &x->gpu, &d->params, &d->params, degree + 1);
#ifdef WEFT_CUDA
    weft_gpu_codec_layout(l, &x->gpu, &d->params);
#endif
    if (!made) return NULL;
    memset(x->edge, 0, degree * sizeof *x->edge);
    for (k = 0; k < degree; k++) {
        saddle_edge *e = &x->edge[k];
        e->piece = pieces + k * longest;
        if (stores) e->store = stores + k * store;
        if (lengths) e->length = lengths + k * models;
        if (neighbours) e->copy = neighbours + k * model;
        if (residuals) e->kept = residuals + k * model;
    }
    return made;
}

SADDLE_API size_t saddle_memory_abi(const saddle_desc *desc, weft_memory_report *report, size_t desc_size,
                                    uint32_t abi) {
    weft_layout l;
    weft_detail detail = weft_detail_none();
    weft_codec gradient;
    saddle_desc d;
    saddle tmp;
    size_t total = 0;
    memset(&l, 0, sizeof l);
    if (report) memset(report, 0, sizeof *report);
    l.report = report;
    if (saddle_check(desc, desc_size, abi, &d, &gradient, &detail) == WEFT_OK) {
        WEFT_GPU_LEND(&l, &d);
        saddle_lay_out(&l, &d, &gradient, &tmp);
        total = weft_layout_total(&l);
        if (!total) weft_refuse(&detail, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    }
    if (report) {
        report->detail = detail;
        report->total_bytes = total;
        report->requests_per_peer = WEFT_LINK_REQUESTS;
        WEFT_GPU_REPORT(report, &l);
    }
    return total;
}

WEFT_FN void saddle_begin_afresh(saddle *x);

WEFT_FN uint64_t saddle_codec_hash(const weft_codec *c, uint64_t more) {
    uint64_t h = weft_mix((uint64_t)c->kind + 1);
    h = weft_mix(h + c->bits * 2u + (uint32_t)c->biased);
    h = weft_mix(h + weft_double_bits(c->drop + 0.0));
    return weft_mix(h + more);
}

WEFT_FN void saddle_fingerprint(saddle *x) {
    const saddle_desc *d = &x->desc;
    uint64_t *f = x->fingerprint, h = 0;
    size_t i, n = 0;
    for (i = 0; i < d->params.count; i++)
        h = weft_mix(h + weft_mix(d->params.tensor[i].count) + (uint64_t)d->params.tensor[i].dtype);
    f[n++] = SADDLE_MAGIC;
    f[n++] = WEFT_VERSION;
    f[n++] = d->params.count;
    f[n++] = weft_tensors_elements(&d->params);
    f[n++] = h;
    f[n++] = d->graph->workers;
    f[n++] = d->graph->edges;
    f[n++] = weft_graph_hash(d->graph);
    f[n++] = (uint64_t)d->order;
    f[n++] = (uint64_t)d->momentum;
    f[n++] = weft_double_bits(d->rho);
    f[n++] = weft_double_bits(d->beta);
    f[n++] = weft_double_bits(d->mu);
    f[n++] = (uint64_t)d->nesterov;
    f[n++] = weft_double_bits(d->weight_decay + 0.0);
    f[n++] = weft_double_bits(d->gamma);
    f[n++] = weft_double_bits(d->share);
    f[n++] = (uint64_t)d->mixing;
    f[n++] = saddle_codec_hash(&d->codec, (uint64_t)d->feedback);
    f[n++] = saddle_codec_hash(&x->gradient_codec, (uint64_t)(d->gradient_feedback * 2 + d->compress_self));
    f[n++] = d->piece_bytes;
    f[n++] = (uint64_t)d->variant;
}

SADDLE_API weft_status saddle_init_abi(saddle **out, const saddle_desc *desc, void *memory, size_t bytes,
                                       weft_detail *detail, size_t desc_size, uint32_t abi) {
    weft_detail why = weft_detail_none();
    weft_detail *say = detail ? detail : &why;
    weft_layout l;
    weft_codec gradient;
    saddle_desc d;
    saddle *x;
    size_t need, i;
    uint32_t k;
    weft_status s;
    *say = why;
    if (!out) return weft_refuse(say, WEFT_ERR_ARGUMENT, WEFT_TEXT("out"), 1, 0);
    *out = NULL;
    if ((s = saddle_check(desc, desc_size, abi, &d, &gradient, say)) != WEFT_OK) return s;
    need = saddle_memory_abi(desc, NULL, desc_size, abi);
    if (!need) return weft_refuse(say, WEFT_ERR_OVERFLOW, WEFT_TEXT("memory"), SIZE_MAX, 0);
    if (!memory || bytes < need) return weft_refuse(say, WEFT_ERR_MEMORY, WEFT_TEXT("bytes"), need, memory ? bytes : 0);
    if ((s = weft_float_probe(say)) != WEFT_OK) return s;
    memset(&l, 0, sizeof l);
    l.base = weft_align_memory(memory);
    WEFT_GPU_LEND(&l, &d);
    x = saddle_lay_out(&l, &d, &gradient, NULL);
    x->magic = SADDLE_MAGIC;
    x->desc = d;
    x->gradient_codec = gradient;
    x->desc.gradient_codec = d.gradient_codec ? &x->gradient_codec : NULL;
    x->desc.group_of_tensor = d.group_of_tensor ? x->group_of : NULL;
    for (i = 0; i < d.params.count; i++) x->group_of[i] = d.group_of_tensor ? d.group_of_tensor[i] : 0;
    x->detail = weft_detail_none();
    x->net.detail = x->net.fault = x->detail;
    x->net.net = d.transport;
    x->net.channel = d.channel;
    x->net.trace = d.trace;
    x->net.trace_ctx = d.trace_ctx;
    x->net.owner.self = x;
    x->net.owner.hello = saddle_on_hello;
    x->net.owner.up = saddle_on_up;
    x->net.owner.down = saddle_on_down;
    x->net.owner.letter = saddle_on_letter;
    x->net.owner.busy = saddle_is_busy;
    x->me = d.transport->rank;
    x->neighbour = weft_graph_neighbours(d.graph, x->me, &x->net.count);
    memset(x->net.link, 0, x->net.count * sizeof *x->net.link);
    for (k = 0; k < x->net.count; k++) x->net.link[k].rank = x->neighbour[k];
    x->kernels = weft_kernels_select(d.isa, weft_tensors_elements(&d.params) * sizeof(float));
    x->codecs = weft_codec_kernels_select(d.isa, 0);
    s = WEFT_GPU_INIT(&x->gpu, &d, &l, &x->kernels, say);
    if (s != WEFT_OK) return s;
    WEFT_GPU_USE(x->net, &d, &x->gpu);
#ifdef WEFT_CUDA
    x->on_gpu = *x->codecs;
    x->on_gpu.core = x->kernels;
    x->codecs = &x->on_gpu;
#endif
    x->cross = saddle_is_cross(&d);
    x->sends_gradients = x->cross && d.share > 0;
    x->rate = d.learning_rate;
    saddle_fingerprint(x);
    saddle_begin_afresh(x);
    for (k = 0; k < x->net.count; k++)
        if (x->edge[k].copy) saddle_zero(x, x->edge[k].copy);
    saddle_phase(x, SADDLE_IDLE, WEFT_TEXT("between steps"));
#ifdef WEFT_CUDA
    if (WEFT_GPU_IS_BROKEN(&x->net))
        return weft_refuse(say, x->gpu.failed, WEFT_TEXT("cuda"), 0, (uint64_t)x->gpu.device.error);
#endif
    *out = x;
    return WEFT_OK;
}

/* ---- Verbs ---- */

#define SADDLE_BIT(state) (1u << (state))
#define SADDLE_IN_A_STEP                                                                                               \
    (SADDLE_BIT(SADDLE_OPENING) | SADDLE_BIT(SADDLE_WANTING) | SADDLE_BIT(SADDLE_READY) | SADDLE_BIT(SADDLE_MODELS) |  \
     SADDLE_BIT(SADDLE_GRADIENTS) | SADDLE_BIT(SADDLE_SPOILT))
#define SADDLE_ANY_LIVE (SADDLE_BIT(SADDLE_LEFT) - 1u)

/* A verb begins. `states`: bit a state in which it is legal. Ends with saddle_exit. */
WEFT_FN weft_status saddle_enter(saddle *x, uint32_t states) {
    if (!x || x->magic != SADDLE_MAGIC) return WEFT_ERR_ARGUMENT;
    if (x->busy) return WEFT_ERR_REENTRY;
    if (!(states >> x->state & 1u))
        return saddle_fail(x, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("state"), states, (uint64_t)x->state);
    x->busy = 1;
    x->detail = weft_detail_none();
    return WEFT_OK;
}

WEFT_FN WEFT_NOINLINE weft_status saddle_exit(saddle *x, weft_status s) {
    x->busy = 0;
#ifdef WEFT_CUDA
    if (WEFT_GPU_IS_BROKEN(&x->net)) /* whatever else came of it */
        return saddle_fail(x, x->gpu.failed, WEFT_NO_RANK, WEFT_TEXT("cuda"), 0, (uint64_t)x->gpu.device.error);
#endif
    if (s > 0) x->detail.status = s;
    return s;
}

/* The parameters that training starts from. */
WEFT_FN void saddle_open(saddle *x) {
    const weft_tensors *p = &x->desc.params;
    uint64_t first = 0, h = 0;
    uint32_t k;
    size_t i;
    x->opened = 1;
    if (x->desc.initial == SADDLE_INITIAL_CHECK && !x->desc.join && x->step == 0) {
        for (i = 0; i < p->count; i++) {
            h += weft_run_hash(x->kernels, x->desc.pool, p->tensor[i].dtype, p->tensor[i].count, first,
                               p->tensor[i].data);
            first += p->tensor[i].count;
        }
        x->initial_hash = h ? h : 1;
    }
    saddle_phase(x, SADDLE_OPENING, WEFT_TEXT("waiting for neighbours"));
    for (k = 0; k < x->net.count; k++)
        if (!x->edge[k].barred) weft_link_open(&x->net, k);
}

SADDLE_API weft_status saddle_next(saddle *x, saddle_want *want) {
    weft_status s = saddle_enter(x, SADDLE_BIT(SADDLE_IDLE) | SADDLE_IN_A_STEP);
    if (s != WEFT_OK) return s;
    if (!want) return saddle_exit(x, saddle_fail(x, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("want"), 1, 0));
    if (x->state == SADDLE_IDLE) {
        const uint64_t bad = saddle_nonfinite(x, NULL);
        if (bad) return saddle_exit(x, saddle_fail(x, WEFT_ERR_NONFINITE, x->me, WEFT_TEXT("params"), 0, bad));
        x->timing = 0;
        if (x->opened)
            saddle_first(x);
        else
            saddle_open(x);
    } else if (x->state == SADDLE_WANTING && x->told) {
        if ((s = saddle_given(x)) != WEFT_OK) return saddle_exit(x, s);
    }
    s = saddle_drive(x);
    if (s == WEFT_WANT_GRADIENT) saddle_fill_want(x, want);
    return saddle_exit(x, s);
}

SADDLE_API weft_status saddle_poll(saddle *x) {
    weft_status s = saddle_enter(x, SADDLE_ANY_LIVE | SADDLE_BIT(SADDLE_LEFT));
    return s != WEFT_OK ? s : saddle_exit(x, saddle_drive(x));
}

SADDLE_API weft_status saddle_wait(saddle *x, saddle_want *want) {
    int leaving = x && x->magic == SADDLE_MAGIC && (x->state == SADDLE_LEAVING || x->state == SADDLE_LEFT);
    for (;;) {
        weft_status s = leaving ? saddle_poll(x) : saddle_next(x, want);
        uint64_t until = UINT64_MAX;
        if (s != WEFT_AGAIN) return s;
        if (x->net.moved || !x->net.net->wait) continue;
        if (x->desc.timeout_ns && x->timing && x->desc.timeout_ns < until - x->since_ns)
            until = x->since_ns + x->desc.timeout_ns;
        x->net.net->wait(x->net.net->ctx, until);
    }
}

SADDLE_API weft_status saddle_step(saddle *x, saddle_gradient_fn gradient, void *ctx) {
    saddle_want want;
    weft_status s;
    if (!gradient) {
        s = saddle_enter(x, SADDLE_ANY_LIVE);
        return s != WEFT_OK
                   ? s
                   : saddle_exit(x, saddle_fail(x, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("gradient"), 1, 0));
    }
    /* one that failed is asked for again */
    if (x && x->magic == SADDLE_MAGIC && !x->busy && x->state == SADDLE_WANTING) x->told = 0;
    while ((s = saddle_next(x, &want)) == WEFT_WANT_GRADIENT) {
        x->busy = 1;
        s = gradient(ctx, &want);
        x->busy = 0;
        if (s < 0) break;
    }
    return s;
}

SADDLE_API weft_status saddle_set_learning_rate(saddle *x, double learning_rate) {
    weft_status s = saddle_enter(x, SADDLE_BIT(SADDLE_IDLE));
    if (s != WEFT_OK) return s;
    if (!(learning_rate > 0) || !weft_is_finite(learning_rate))
        return saddle_exit(x, saddle_fail(x, WEFT_ERR_ARGUMENT, WEFT_NO_RANK, WEFT_TEXT("learning_rate"),
                                          weft_double_bits(1), weft_double_bits(learning_rate)));
    x->rate = x->desc.learning_rate = learning_rate;
    return saddle_exit(x, WEFT_OK);
}

SADDLE_API weft_status saddle_leave(saddle *x) {
    weft_status s = saddle_enter(x, SADDLE_BIT(SADDLE_IDLE));
    if (s != WEFT_OK) return s;
    x->timing = 0;
    if (!x->opened) saddle_open(x); /* there may be neighbours who wait for it */
    saddle_phase(x, SADDLE_LEAVING, WEFT_TEXT("saying good-bye"));
    return saddle_exit(x, saddle_drive(x));
}

WEFT_FN weft_status saddle_set_link(saddle *x, uint32_t rank, int up) {
    uint32_t k;
    weft_status s = saddle_enter(x, SADDLE_ANY_LIVE);
    if (s != WEFT_OK) return s;
    if (rank >= x->desc.graph->workers || rank == x->me)
        return saddle_exit(x, saddle_fail(x, WEFT_ERR_ARGUMENT, rank, WEFT_TEXT("rank"), x->desc.graph->workers, rank));
    k = weft_graph_slot(x->desc.graph, x->me, rank);
    if (k == WEFT_NO_EDGE) return saddle_exit(x, WEFT_OK);
    x->edge[k].barred = !up;
    if (!x->opened) return saddle_exit(x, WEFT_OK);
    weft_link_down(&x->net, k, 0);
    x->net.link[k].faults = 0;
    x->net.link[k].bye_due = !up; /* it may live, and wait for this worker */
    if (up && x->state != SADDLE_LEAVING) weft_link_open(&x->net, k);
    return saddle_exit(x, WEFT_OK);
}

SADDLE_API weft_status saddle_peer_lost(saddle *x, uint32_t rank) {
    return saddle_set_link(x, rank, 0);
}

SADDLE_API weft_status saddle_peer_up(saddle *x, uint32_t rank) {
    return saddle_set_link(x, rank, 1);
}

/* ---- Saved state ---- */

/* The i-th of the buffers that go from step to step; NULL: there is none. As many as neighbours, and four. */
WEFT_FN unsigned char *saddle_lasting(const saddle *x, uint32_t i) {
    switch (i) {
    case 0: return x->momentum;
    case 1: return x->desc.momentum == SADDLE_MOMENTUM_GLOBAL && x->desc.order == SADDLE_CTA ? x->mixed : NULL;
    case 2: return x->kept;
    case 3: return x->self_kept;
    default: return x->edge[i - 4].kept;
    }
}

/* They are as in a fresh object. */
WEFT_FN void saddle_begin_afresh(saddle *x) {
    uint32_t i;
    for (i = 0; i < x->net.count + 4; i++)
        if (saddle_lasting(x, i)) saddle_zero(x, saddle_lasting(x, i));
}

/* All of it in order: measured, written and read by the same lines. */
WEFT_FN void saddle_blob(saddle *x, weft_blob *b) {
    uint32_t i;
    size_t t;
    WEFT_GPU_USE(*b, &x->desc, &x->gpu);
    weft_blob_u64(b, &x->step);
    weft_blob_u64(b, &x->stats.steps);
    weft_blob_u64(b, &x->stats.evaluations);
    weft_blob_u64(b, &x->stats.exchanges);
    weft_blob_u64(b, &x->stats.skipped);
    weft_blob_u64(b, &x->stats.nonfinite);
    weft_blob_double(b, &x->rate);
    weft_blob_double(b, &x->last_rate);
    for (i = 0; i < x->net.count + 4; i++) {
        unsigned char *buffer = saddle_lasting(x, i);
        for (t = 0; buffer && t < x->desc.params.count; t++) {
            const size_t each = weft_dtype_bytes(x->desc.params.tensor[t].dtype);
            weft_blob_raw(b, saddle_at(x, buffer, t), x->desc.params.tensor[t].count * each, each);
        }
    }
}

WEFT_FN size_t saddle_blob_bytes(saddle *x) {
    weft_blob b;
    memset(&b, 0, sizeof b);
    b.at = WEFT_BLOB_HEAD;
    saddle_blob(x, &b);
    return b.at + WEFT_BLOB_TAIL;
}

WEFT_FN uint64_t saddle_blob_fingerprint(const saddle *x) {
    uint64_t h = weft_mix((uint64_t)x->me << 1 | 1u) + x->desc.seed;
    int i;
    for (i = 0; i < SADDLE_FIELDS; i++) h = weft_mix(h + x->fingerprint[i]);
    return h;
}

/* A blob may have a valid checksum and still be hostile. */
WEFT_FN int saddle_blob_sane(saddle *x) {
    uint64_t bad = 0;
    uint32_t i;
    if (x->step > UINT64_MAX / 4 || x->stats.steps > x->step || !(x->rate > 0) || !weft_is_finite(x->rate)) return 0;
    if (x->step && (!(x->last_rate > 0) || !weft_is_finite(x->last_rate))) return 0;
    for (i = 0; i < x->net.count + 4; i++)
        if (saddle_lasting(x, i)) bad += saddle_nonfinite(x, saddle_lasting(x, i));
    return !bad;
}

SADDLE_API weft_status saddle_save_to(saddle *x, weft_write_fn write, void *ctx, size_t *bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    weft_status s = saddle_enter(x, SADDLE_BIT(SADDLE_IDLE));
    if (s != WEFT_OK) return s;
    s = weft_blob_begin(&b, write, ctx, saddle_blob_bytes(x), saddle_blob_fingerprint(x), bytes, &why);
    if (s == WEFT_OK) {
        saddle_blob(x, &b);
        s = weft_blob_end(&b, 1, &why);
    }
    if (s != WEFT_OK) (void)saddle_fail(x, s, WEFT_NO_RANK, why.field, why.expected, why.got);
    return saddle_exit(x, s);
}

SADDLE_API weft_status saddle_save(saddle *x, void *buf, size_t capacity, size_t *bytes) {
    weft_blob_buffer m;
    m.to = (unsigned char *)buf;
    m.bytes = capacity;
    return saddle_save_to(x, buf ? weft_blob_to_buffer : NULL, &m, bytes);
}

SADDLE_API weft_status saddle_load_from(saddle *x, weft_read_fn read, void *ctx, size_t bytes) {
    weft_blob b;
    weft_detail why = weft_detail_none();
    const double rate = x ? x->rate : 0;
    weft_status s = saddle_enter(x, SADDLE_BIT(SADDLE_IDLE));
    if (s != WEFT_OK) return s;
    if (!(saddle_state(x) & SADDLE_MAY_LOAD))
        return saddle_exit(x, saddle_fail(x, WEFT_ERR_ORDER, WEFT_NO_RANK, WEFT_TEXT("steps"), 0, x->step));
    s = weft_blob_check(&b, read, ctx, bytes, saddle_blob_bytes(x), saddle_blob_fingerprint(x), &why);
    if (s == WEFT_OK) {
        saddle_blob(x, &b);
        s = weft_blob_end(&b, saddle_blob_sane(x), &why);
        if (s == WEFT_OK) {
            x->loaded = 1;
            x->net.round = x->step;
            x->desc.learning_rate = x->rate;
            return saddle_exit(x, WEFT_OK);
        }
        x->step = 0;
        x->rate = rate;
        x->last_rate = 0;
        memset(&x->stats, 0, sizeof x->stats);
        saddle_begin_afresh(x);
    }
    return saddle_exit(x, saddle_fail(x, s, WEFT_NO_RANK, why.field, why.expected, why.got));
}

SADDLE_API weft_status saddle_load(saddle *x, const void *buf, size_t bytes) {
    weft_blob_buffer m;
    m.from = (const unsigned char *)buf;
    return saddle_load_from(x, buf ? weft_blob_from_buffer : NULL, &m, bytes);
}

/* ---- Reading ---- */

SADDLE_API void saddle_stats(const saddle *x, saddle_stats_t *out) {
    uint32_t k;
    if (!x || !out) return;
    *out = x->stats;
    out->traffic = x->net.traffic;
    out->lost = x->net.lost;
    out->faults = x->net.faults;
    out->neighbours = 0;
    if (x->magic != SADDLE_MAGIC) return;
    for (k = 0; k < x->net.count; k++) out->neighbours += x->net.link[k].state == WEFT_LINK_UP;
}

SADDLE_API void saddle_effective(const saddle *x, saddle_desc *out) {
    if (x && out) *out = x->desc;
}

SADDLE_API const weft_detail *saddle_detail(const saddle *x) {
    return x ? &x->detail : NULL;
}

SADDLE_API const weft_detail *saddle_fault(const saddle *x) {
    return x ? &x->net.fault : NULL;
}

SADDLE_API uint32_t saddle_state(const saddle *x) {
    if (!x || x->magic != SADDLE_MAGIC || x->state >= SADDLE_LEFT) return 0;
    if (x->state == SADDLE_IDLE)
        return SADDLE_MAY_NEXT | SADDLE_MAY_SET | SADDLE_MAY_LINK |
               (x->opened || x->loaded ? 0u : (uint32_t)SADDLE_MAY_LOAD);
    if (x->state == SADDLE_LEAVING) return SADDLE_MAY_POLL | SADDLE_MAY_LINK;
    if (x->state == SADDLE_SPOILT) return SADDLE_MAY_LINK;
    return SADDLE_MAY_NEXT | SADDLE_MAY_LINK |
           (x->state == SADDLE_WANTING ? (uint32_t)SADDLE_MAY_GIVE : (uint32_t)SADDLE_MAY_POLL);
}

SADDLE_API weft_link_state saddle_link(const saddle *x, uint32_t rank) {
    uint32_t k;
    if (!x || x->magic != SADDLE_MAGIC) return WEFT_LINK_DOWN;
    k = weft_graph_slot(x->desc.graph, x->me, rank);
    return k == WEFT_NO_EDGE ? WEFT_LINK_DOWN : x->net.link[k].state;
}

SADDLE_API const void *saddle_buffer(const saddle *x, saddle_buffer_kind kind, uint32_t peer, size_t tensor) {
    unsigned char *buffer = NULL;
    const saddle_edge *e = NULL;
    uint32_t k;
    if (!x || x->magic != SADDLE_MAGIC || tensor >= x->desc.params.count) return NULL;
    k = weft_graph_slot(x->desc.graph, x->me, peer);
    if (k != WEFT_NO_EDGE) e = &x->edge[k];
    switch (kind) {
    case SADDLE_OF_MOMENTUM: buffer = x->momentum; break;
    case SADDLE_OF_MODEL: buffer = x->kept; break;
    case SADDLE_OF_COPY: buffer = e ? e->copy : NULL; break;
    case SADDLE_OF_GRADIENT: buffer = peer == x->me ? x->self_kept : e ? e->kept : NULL; break;
    }
    return buffer ? saddle_at(x, buffer, tensor) : NULL;
}

SADDLE_API void saddle_close(saddle *x) {
    if (!x || x->magic != SADDLE_MAGIC || x->busy) return;
    x->busy = 1;
    if (x->swapped) saddle_swap(x, x->at);
    weft_links_close(&x->net);
    x->state = SADDLE_CLOSED;
    x->magic = 0;
}
