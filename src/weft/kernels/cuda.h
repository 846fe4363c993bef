/*==== SECTION WEFT_DEVICE_PART ====*/
/* Device kernels (WEFT_CUDA): the works of drivers.h on device pointers, enqueued on the host's stream, with the bits
 * of the serial set. Nothing here allocates or waits. What a work yields goes to device or pinned memory, to be read
 * after the host's own synchronisation. All works of one weft_device go to one stream; what one launch leaves for the
 * next is in device memory.
 *
 * - Every operation is an intrinsic that rounds once, so that no compiler option fuses.
 * - What only maps elements takes packets of 16 bytes (8 of the 16-bit types) where all arrays are aligned alike, and
 *   single elements where they are not. Counts are integers, added up in any order.
 * - Sums: a thread is one of the sixteen lanes of a block, and sees its elements in order. Pieces of sixteen blocks are
 *   taken in order. Their sums are added in order while others are still being computed: whoever has finished a piece
 *   takes a lock and adds up what is ready; who does not get the lock goes on, since its holder looks again after
 *   letting go. Nobody waits for anybody.
 *
 * Tests bring a runtime of their own and define the macros of this paragraph and WEFT_CUDA_RUNTIME (machine.h). */
#ifndef WEFT_LAUNCH
#define WEFT_LAUNCH(error, kernel, grid, block, shared, stream, job)                                                   \
    do {                                                                                                               \
        void *weft_arguments[1] = {(void *)&(job)};                                                                    \
        (error) =                                                                                                      \
            cudaLaunchKernel((const void *)(kernel), dim3(grid), dim3(block), weft_arguments, (shared), (stream));     \
    } while (0)
#endif
#ifndef WEFT_SHARED
#define WEFT_SHARED(type, name) extern __shared__ type name[]
#endif
#ifdef __CUDACC__
#define WEFT_UNROLL _Pragma("unroll")
#else
#define WEFT_UNROLL
#endif
#define WEFT_DEVICE static __device__ __forceinline__

#define WEFT_DEVICE_THREADS 256u
#define WEFT_DEVICE_PIECE (WEFT_DEVICE_THREADS / WEFT_LANES_OF_A_BLOCK) /* blocks that the threads do at a time */
#define WEFT_DEVICE_SOURCES 32u /* that fit the parameters of a launch; more go by a table in the memory */

/* ---- what the host holds ---- */
typedef unsigned long long weft_device_word; /* what atomics take */

typedef struct weft_device_source {
    const void *x;
    double w; /* rounded to the element type, or in f64 for wide sums */
} weft_device_source;

/* Zero between launches, but for `epoch`, which counts those with sums, and so tells what is ready now. */
typedef struct weft_device_state {
    weft_device_word epoch, next, count; /* next: the first piece that is not in the total yet */
    double total[WEFT_SLOTS];
    unsigned lock, done, taken; /* done: blocks of threads; taken: pieces */
} weft_device_state;

typedef struct weft_device {
    cudaStream_t stream;
    weft_device_state *state;
    weft_device_word *ready; /* of each piece: the epoch, plus one, of the last launch that has done it */
    double *slot;            /* WEFT_SLOTS planes of `blocks` sums */
    weft_device_source *table;
    size_t blocks, sources; /* what there is room for */
    unsigned grid;          /* most blocks of threads */
    cudaError_t error;      /* the last one that the runtime gave */
} weft_device;

/* What a launch is told. */
typedef struct weft_device_job {
    weft_op op;
    weft_dtype dtype;
    size_t n, head, packets; /* elements: `head` single ones, packets, single ones */
    void *array[3];
    unsigned reads, writes, sums, counts;
    double a, b, decay; /* rounded to the element type. pull: a = 1 - l, b = l; SGD: rate, momentum, weight decay */
    int nesterov, first_step;
    uint64_t first;
    weft_device own;
    size_t blocks;
    weft_slot *total;
    size_t sources;
    int tabled; /* the sources are in the table */
    int wide;   /* their sum is formed in f64 */
    int go_on;  /* sums begin with what is in `total` */
    int few;    /* cuda_wide.h */
    weft_device_source source[WEFT_DEVICE_SOURCES];
} weft_device_job;

/* ---- elements ---- */
WEFT_DEVICE float weft_device_add(float a, float b) {
    return __fadd_rn(a, b);
}
WEFT_DEVICE double weft_device_add(double a, double b) {
    return __dadd_rn(a, b);
}
WEFT_DEVICE float weft_device_sub(float a, float b) {
    return __fsub_rn(a, b);
}
WEFT_DEVICE double weft_device_sub(double a, double b) {
    return __dsub_rn(a, b);
}
WEFT_DEVICE float weft_device_mul(float a, float b) {
    return __fmul_rn(a, b);
}
WEFT_DEVICE double weft_device_mul(double a, double b) {
    return __dmul_rn(a, b);
}
WEFT_DEVICE float weft_device_div(float a, float b) {
    return __fdiv_rn(a, b);
}
WEFT_DEVICE double weft_device_div(double a, double b) {
    return __ddiv_rn(a, b);
}
/* the product of two floats is exact in f64, so that fusing changes nothing */
WEFT_DEVICE double weft_device_madd(double sum, float a, float b) {
    return __fma_rn((double)a, (double)b, sum);
}
WEFT_DEVICE double weft_device_madd(double sum, double a, double b) {
    return __dadd_rn(sum, __dmul_rn(a, b));
}
WEFT_DEVICE uint64_t weft_device_bits(float v) {
    return __float_as_uint(v);
}
WEFT_DEVICE uint64_t weft_device_bits(double v) {
    return (uint64_t)__double_as_longlong(v);
}
WEFT_DEVICE unsigned weft_device_nonfinite(float v) {
    return (weft_device_bits(v) & 0x7F800000u) == 0x7F800000u;
}
WEFT_DEVICE unsigned weft_device_nonfinite(double v) {
    return (weft_device_bits(v) >> 52 & 0x7FFu) == 0x7FFu;
}

WEFT_DEVICE uint64_t weft_device_mix(uint64_t z) {
    z = (z ^ z >> 30) * WEFT_HASH_MUL1;
    z = (z ^ z >> 27) * WEFT_HASH_MUL2;
    return z ^ z >> 31;
}

/* The 16-bit types as in body.h, which says why. */
WEFT_DEVICE float weft_device_widen(weft_dtype t, unsigned h) {
    const unsigned m = (h & 0x7FFFu) << 13;
    unsigned r;
    if (t == WEFT_BF16) return __uint_as_float(h << 16);
    r = __float_as_uint(__fmul_rn(__uint_as_float(m), __uint_as_float(0x77800000u)));
    if (m > 0x0F7FFFFFu) r = m > 0x0F800000u ? m | 0x7FC00000u : 0x7F800000u;
    return __uint_as_float(r | (h & 0x8000u) << 16);
}

WEFT_DEVICE uint16_t weft_device_narrow(weft_dtype t, float v) {
    const unsigned b = __float_as_uint(v), m = b & 0x7FFFFFFFu, top = m >> 13;
    unsigned r;
    if (t == WEFT_BF16) {
        r = b + (0x7FFFu + (b >> 16 & 1u));
        return (uint16_t)(m > 0x7F800000u ? b >> 16 | 0x40u : r >> 16);
    }
    if (m > 0x7F800000u)
        r = 0x7E00u | (top & 0x3FFu);
    else if (m > 0x477FFFFFu)
        r = 0x7C00u;
    else if (m < 0x38800000u)
        r = __float_as_uint(__fadd_rn(__uint_as_float(m), 0.5f)) + 0xC1000000u;
    else
        r = (m + (0xC8000FFFu + (top & 1u))) >> 13;
    return (uint16_t)(r | (b >> 16 & 0x8000u));
}

/* E elements of what is stored, in one access; as they are computed with, and back. */
template <typename S, unsigned E> struct alignas(sizeof(S) * E) weft_device_packet { S v[E]; };
WEFT_DEVICE float weft_device_in(weft_dtype, float v) {
    return v;
}
WEFT_DEVICE double weft_device_in(weft_dtype, double v) {
    return v;
}
WEFT_DEVICE float weft_device_in(weft_dtype t, uint16_t v) {
    return weft_device_widen(t, v);
}
WEFT_DEVICE void weft_device_out(weft_dtype, float v, float *to) {
    *to = v;
}
WEFT_DEVICE void weft_device_out(weft_dtype, double v, double *to) {
    *to = v;
}
WEFT_DEVICE void weft_device_out(weft_dtype t, float v, uint16_t *to) {
    *to = weft_device_narrow(t, v);
}

template <typename S, unsigned E, typename T>
WEFT_DEVICE void weft_device_get(weft_dtype t, const void *p, size_t i, T *v) {
    const weft_device_packet<S, E> q = *(const weft_device_packet<S, E> *)(const void *)((const S *)p + i);
    WEFT_UNROLL for (unsigned e = 0; e < E; e++) v[e] = (T)weft_device_in(t, q.v[e]);
}

/* Leaves in v what is stored, as it will be read. */
template <typename S, unsigned E, typename T> WEFT_DEVICE void weft_device_put(weft_dtype t, void *p, size_t i, T *v) {
    weft_device_packet<S, E> q;
    WEFT_UNROLL for (unsigned e = 0; e < E; e++) {
        weft_device_out(t, v[e], &q.v[e]);
        v[e] = (T)weft_device_in(t, q.v[e]);
    }
    if (sizeof q == 16) { /* an assignment would be taken apart */
        uint4 whole;
        memcpy(&whole, &q, sizeof q);
        __stwb((uint4 *)((S *)p + i), whole);
    } else if (sizeof q == 8) {
        uint2 whole;
        memcpy(&whole, &q, sizeof q);
        __stwb((uint2 *)((S *)p + i), whole);
    } else
        *(weft_device_packet<S, E> *)((S *)p + i) = q;
}

template <unsigned E> WEFT_DEVICE void weft_device_load(weft_dtype t, const void *p, size_t i, float *v) {
    if (t == WEFT_F32)
        weft_device_get<float, E>(t, p, i, v);
    else
        weft_device_get<uint16_t, E>(t, p, i, v);
}
template <unsigned E> WEFT_DEVICE void weft_device_load(weft_dtype t, const void *p, size_t i, double *v) {
    weft_device_get<double, E>(t, p, i, v);
}
template <unsigned E> WEFT_DEVICE void weft_device_store(weft_dtype t, void *p, size_t i, float *v) {
    if (t == WEFT_F32)
        weft_device_put<float, E>(t, p, i, v);
    else
        weft_device_put<uint16_t, E>(t, p, i, v);
}
template <unsigned E> WEFT_DEVICE void weft_device_store(weft_dtype t, void *p, size_t i, double *v) {
    weft_device_put<double, E>(t, p, i, v);
}

/* ---- works that map elements, or count ---- */

/* E elements from the i-th on; returns their count. What is read is read before anything is written. */
template <typename T, unsigned E> WEFT_DEVICE uint64_t weft_device_step(const weft_device_job &j, size_t i) {
    const T a = (T)j.a, b = (T)j.b;
    T p[3][E];
    uint64_t count = 0;
    WEFT_UNROLL for (unsigned k = 0; k < 3; k++) {
        if (j.reads >> k & 1u)
            weft_device_load<E>(j.dtype, j.array[k], i, p[k]);
        else
            WEFT_UNROLL for (unsigned e = 0; e < E; e++) p[k][e] = 0;
    }
    if (j.op == WEFT_OP_WEIGHTED_SUM) {
        double wide[E]; /* where the sum is one of wide.h: all in f64, rounded once */
        for (size_t s = 0; s < j.sources; s++) {
            const weft_device_source from = j.tabled ? j.own.table[s] : j.source[s];
            weft_device_load<E>(j.dtype, from.x, i, p[1]);
            WEFT_UNROLL for (unsigned e = 0; e < E; e++) {
                if (j.wide) {
                    const double v = weft_device_mul(from.w, (double)p[1][e]);
                    wide[e] = s ? weft_device_add(wide[e], v) : v;
                    p[0][e] = (T)wide[e];
                } else {
                    const T v = weft_device_mul((T)from.w, p[1][e]);
                    p[0][e] = s ? weft_device_add(p[0][e], v) : v;
                }
            }
        }
    }
    WEFT_UNROLL for (unsigned e = 0; e < E; e++) {
        const T x = p[0][e], y = p[1][e];
        switch (j.op) {
        case WEFT_OP_SCALE: p[1][e] = weft_device_mul(a, x); break;
        case WEFT_OP_AXPY: p[1][e] = weft_device_add(y, weft_device_mul(a, x)); break;
        case WEFT_OP_PULL: p[1][e] = weft_device_add(weft_device_mul(a, y), weft_device_mul(b, x)); break;
        case WEFT_OP_PERTURB:
            p[2][e] = y;
            p[1][e] = weft_device_add(y, weft_device_mul(a, x));
            break;
        case WEFT_OP_COUNT: count += weft_device_nonfinite(x); break;
        case WEFT_OP_HASH: count += weft_device_mix(weft_device_bits(x) + WEFT_HASH_KEY * (j.first + i + e + 1)); break;
        default: break;
        }
    }
    WEFT_UNROLL for (unsigned k = 0; k < 3; k++) if (j.writes >> k & 1u)
        weft_device_store<E>(j.dtype, j.array[k], i, p[k]);
    if (j.op == WEFT_OP_WEIGHTED_SUM) /* as stored */
        WEFT_UNROLL for (unsigned e = 0; e < E; e++) count += weft_device_nonfinite(p[0][e]);
    return count;
}

/* Adds up the counts of all threads; the last block of threads leaves the total, and zeros for the next launch. */
WEFT_DEVICE void weft_device_count(weft_device_state *state, weft_slot *total, weft_device_word count) {
    WEFT_SHARED(weft_device_word, weft_shared_words);
    weft_device_word *const part = weft_shared_words;
    for (unsigned half = 16; half; half /= 2) count += __shfl_down_sync(0xFFFFFFFFu, count, half);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = count;
    __syncthreads(); /* all parts are there */
    if (threadIdx.x) return;
    for (unsigned warp = 1; warp < WEFT_DEVICE_THREADS / 32; warp++) count += part[warp];
    if (count) atomicAdd(&state->count, count);
    __threadfence();
    if (atomicAdd(&state->done, 1u) != gridDim.x - 1) return;
    __threadfence();
    total[0].count = atomicExch(&state->count, (weft_device_word)0);
    atomicExch(&state->done, 0u);
}

template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_elements(const weft_device_job j) {
    const unsigned each = 16 / sizeof(T);
    const size_t threads = (size_t)gridDim.x * WEFT_DEVICE_THREADS, packed = j.packets * each;
    const size_t me = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x;
    uint64_t count = 0;
    for (size_t i = me; i < j.packets; i += threads) count += weft_device_step<T, each>(j, j.head + i * each);
    for (size_t i = me; i < j.n - packed; i += threads) count += weft_device_step<T, 1>(j, i < j.head ? i : i + packed);
    if (j.counts) weft_device_count(j.own.state, j.total, count);
}

/* ---- works with sums ---- */

/* The elements of one lane of a block, which begins at element `at` and has n: several rows at a time, so that as many
 * loads are under way. Returns how many are not finite. */
template <typename T>
WEFT_DEVICE unsigned weft_device_lane(const weft_device_job &j, size_t at, size_t n, unsigned lane, double *sum) {
    enum { ROWS = 64 / sizeof(T) };
    const T rate = (T)j.a, mu = (T)j.b, decay = (T)j.decay;
    unsigned bad = 0;
    for (size_t row = lane; row < n; row += ROWS * WEFT_LANES_OF_A_BLOCK) {
        T p[3][ROWS];
        WEFT_UNROLL for (unsigned k = 0; k < 3; k++) WEFT_UNROLL for (unsigned r = 0; r < ROWS; r++) {
            const size_t i = row + r * WEFT_LANES_OF_A_BLOCK;
            p[k][r] = 0; /* tails are padded with zeros */
            if ((j.reads >> k & 1u) && i < n) weft_device_load<1>(j.dtype, j.array[k], at + i, &p[k][r]);
        }
        WEFT_UNROLL for (unsigned r = 0; r < ROWS; r++) {
            const T x = p[0][r], y = p[1][r];
            sum[0] = weft_device_madd(sum[0], x, j.sums > 1 || j.op == WEFT_OP_DOT ? y : x);
            if (j.op == WEFT_OP_DOTS) {
                sum[1] = weft_device_madd(sum[1], x, x);
                sum[2] = weft_device_madd(sum[2], y, y);
            } else if (j.op == WEFT_OP_SGD) {
                const T was = p[2][r];
                T d = x;
                bad += weft_device_nonfinite(x);
                if (decay != 0) d = weft_device_add(d, weft_device_mul(decay, was));
                if (mu != 0) {
                    T u = d;
                    if (!j.first_step) u = weft_device_add(weft_device_mul(mu, y), d);
                    p[1][r] = u;
                    d = j.nesterov ? weft_device_add(d, weft_device_mul(mu, u)) : u;
                }
                p[2][r] = weft_device_sub(was, weft_device_mul(rate, d));
            }
        }
        if (j.writes) WEFT_UNROLL for (unsigned k = 0; k < 3; k++) WEFT_UNROLL for (unsigned r = 0; r < ROWS; r++) {
                const size_t i = row + r * WEFT_LANES_OF_A_BLOCK;
                if ((j.writes >> k & 1u) && i < n) weft_device_store<1>(j.dtype, j.array[k], at + i, &p[k][r]);
            }
    }
    return bad;
}

/* A warp, which has seen this piece done, adds up what is ready. */
WEFT_DEVICE void weft_device_add_up(const weft_device_job &j, size_t pieces, size_t piece, weft_device_word epoch) {
    volatile weft_device_state *const s = j.own.state;
    const volatile weft_device_word *const ready = j.own.ready;
    const volatile double *const slot = j.own.slot;
    const unsigned lane = threadIdx.x, all = 0xFFFFFFFFu;
    if (lane == 0) {
        __threadfence(); /* its sums go before it */
        atomicExch(&j.own.ready[piece], epoch + 1);
    }
    for (int again = 1; again;) {
        double total[WEFT_SLOTS], ahead[WEFT_SLOTS], now[WEFT_SLOTS];
        size_t next;
        unsigned locked = 0;
        if (lane == 0) locked = atomicCAS(&j.own.state->lock, 0u, 1u) == 0;
        if (!__shfl_sync(all, locked, 0)) return;
        __threadfence();
        __syncwarp();
        next = s->epoch == epoch ? (size_t)s->next : pieces; /* else all has been added up already */
        again = next < pieces;
        WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) total[k] =
            j.go_on && !next && k < j.sums ? ((volatile weft_slot *)j.total)[k].sum : s->total[k];
        while (next < pieces) {
            const unsigned is = next + lane < pieces && ready[next + lane] == epoch + 1;
            const unsigned missing = ~__ballot_sync(all, is);
            size_t b = next * WEFT_DEVICE_PIECE, end;
            if (missing & 1u) break;
            __threadfence(); /* after each lane's piece come its sums, */
            __syncwarp();    /* and for all lanes */
            next += missing ? (size_t)__ffs((int)missing) - 1 : 32;
            end = next * WEFT_DEVICE_PIECE < j.blocks ? next * WEFT_DEVICE_PIECE : j.blocks;
            WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) ahead[k] =
                k < j.sums && b + lane < end ? slot[k * j.own.blocks + b + lane] : 0.0;
            for (; b < end; b += 32) { /* zeros in place of what is not there change no sum */
                WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) now[k] = ahead[k];
                WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) ahead[k] =
                    k < j.sums && b + 32 + lane < end ? slot[k * j.own.blocks + b + 32 + lane] : 0.0;
                WEFT_UNROLL for (int i = 0; i < 32; i++) {
                    total[0] = __dadd_rn(total[0], __shfl_sync(all, now[0], i));
                    if (j.sums == 1) continue;
                    total[1] = __dadd_rn(total[1], __shfl_sync(all, now[1], i));
                    total[2] = __dadd_rn(total[2], __shfl_sync(all, now[2], i));
                }
            }
        }
        __syncwarp();
        if (lane == 0) {
            if (again) {
                const int last = next == pieces;
                WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) s->total[k] = last ? 0.0 : total[k];
                s->next = last ? 0 : next;
                if (last) {
                    WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) if (k < j.sums) j.total[k].sum = total[k];
                    if (j.counts) j.total[j.sums].count = atomicExch(&j.own.state->count, (weft_device_word)0);
                    s->epoch = epoch + 1;
                }
            }
            __threadfence();
            atomicExch(&j.own.state->lock, 0u);
            /* whoever did not get the lock meanwhile relies on this look */
            again = again && next < pieces && ready[next] == epoch + 1;
        }
        again = __shfl_sync(all, again, 0);
    }
}

/* The next piece, for all threads of the block. */
WEFT_DEVICE size_t weft_device_take(weft_device_state *state) {
    WEFT_SHARED(weft_device_word, weft_shared_words);
    weft_device_word *const part = weft_shared_words;
    if (threadIdx.x == 0) part[0] = atomicAdd(&state->taken, 1u);
    __syncthreads(); /* the piece is there, and is read by all before the next barrier */
    return (size_t)part[0];
}

/* Whoever leaves last puts the pieces back: nobody takes any more. */
WEFT_DEVICE void weft_device_taken(weft_device_state *state) {
    if (threadIdx.x) return;
    __threadfence();
    if (atomicAdd(&state->done, 1u) != gridDim.x - 1) return;
    atomicExch(&state->taken, 0u);
    atomicExch(&state->done, 0u);
}

/* The sixteen lanes of a block in a pairwise tree, to the first one. */
WEFT_DEVICE double weft_device_tree(double sum) {
    for (unsigned half = WEFT_LANES_OF_A_BLOCK / 2; half; half /= 2)
        sum = __dadd_rn(sum, __shfl_down_sync(0xFFFFFFFFu, sum, half, WEFT_LANES_OF_A_BLOCK));
    return sum;
}

template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_sums(const weft_device_job j) {
    const unsigned lane = threadIdx.x % WEFT_LANES_OF_A_BLOCK, mine = threadIdx.x / WEFT_LANES_OF_A_BLOCK;
    const size_t pieces = (j.blocks - 1) / WEFT_DEVICE_PIECE + 1;
    /* does not change before all pieces are done */
    const weft_device_word epoch = ((const volatile weft_device_state *)j.own.state)->epoch;
    for (;;) {
        const size_t piece = weft_device_take(j.own.state), b = piece * WEFT_DEVICE_PIECE + mine, at = b * WEFT_BLOCK;
        double sum[WEFT_SLOTS] = {0.0, 0.0, 0.0};
        unsigned bad = 0;
        if (piece >= pieces) break;
        if (at < j.n) bad = weft_device_lane<T>(j, at, j.n - at < WEFT_BLOCK ? j.n - at : WEFT_BLOCK, lane, sum);
        if (bad) atomicAdd(&j.own.state->count, (weft_device_word)bad);
        WEFT_UNROLL for (unsigned k = 0; k < WEFT_SLOTS; k++) {
            if (k >= j.sums) break;
            sum[k] = weft_device_tree(sum[k]);
            if (lane == 0 && b < j.blocks) j.own.slot[k * j.own.blocks + b] = sum[k];
        }
        __syncthreads(); /* all blocks' sums are there */
        if (threadIdx.x < 32) weft_device_add_up(j, pieces, piece, epoch);
    }
    weft_device_taken(j.own.state);
}

/* Sources that do not fit one launch's parameters, from those of several to the table. */
static __global__ void weft_device_note(const weft_device_job j) {
    if (threadIdx.x < j.sources) j.own.table[j.first + threadIdx.x] = j.source[threadIdx.x];
}

/* Two arrays change places: n words. */
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_swap(const weft_device_job j) {
    unsigned *const a = (unsigned *)j.array[0], *const b = (unsigned *)j.array[1];
    const size_t threads = (size_t)gridDim.x * WEFT_DEVICE_THREADS;
    for (size_t i = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x; i < j.n; i += threads) {
        const unsigned hold = a[i];
        a[i] = b[i];
        b[i] = hold;
    }
}

/* The total is the number of subnormal results that were flushed. */
static __global__ void weft_device_probe(const weft_device_job j) {
    const float tiny = (float)j.a, small = (float)j.b;
    if (threadIdx.x == 0)
        j.total[0].count = (uint64_t)(weft_device_mul(tiny, 1e20f) == 0) + (weft_device_mul(small, 0.5f) == 0);
}

/* ---- on the host ---- */
WEFT_FN weft_status weft_device_said(weft_device *v, cudaError_t error) {
    if (error == cudaSuccess) return WEFT_OK;
    v->error = error;
    return WEFT_ERR_UNSUPPORTED;
}

/* The parts of the memory for tensors of at most n elements and weighted sums of at most `sources`. 0: too large. */
WEFT_FN size_t weft_device_layout(weft_device *v, unsigned char *base, size_t n, size_t sources) {
    weft_layout l;
    memset(&l, 0, sizeof l);
    l.base = base;
    v->blocks = n ? (n - 1) / WEFT_BLOCK + 1 : 1;
    v->sources = sources;
    v->state = (weft_device_state *)weft_layout_take(&l, "device state", 1, sizeof *v->state);
    v->ready = (weft_device_word *)weft_layout_take(&l, "device pieces", (v->blocks - 1) / WEFT_DEVICE_PIECE + 1,
                                                    sizeof *v->ready);
    v->slot = (double *)weft_layout_take(&l, "device sums", v->blocks, WEFT_SLOTS * sizeof *v->slot);
    v->table = (weft_device_source *)weft_layout_take(&l, "device sources", sources > WEFT_DEVICE_SOURCES ? sources : 0,
                                                      sizeof *v->table);
    return weft_layout_total(&l);
}

/* Bytes of device memory that weft_device_init wants; 0: too many. */
WEFT_FN size_t weft_device_bytes(size_t n, size_t sources) {
    weft_device v;
    return weft_device_layout(&v, NULL, n, sources);
}

/* `memory` is device memory and stays lent. Enqueues that it is cleared. */
WEFT_FN weft_status weft_device_init(weft_device *v, cudaStream_t stream, void *memory, size_t bytes, size_t n,
                                     size_t sources) {
    const size_t want = weft_device_bytes(n, sources);
    int device = 0, processors = 0;
    cudaError_t e;
    memset(v, 0, sizeof *v);
    if (!want) return WEFT_ERR_OVERFLOW;
    if (!memory) return WEFT_ERR_ARGUMENT;
    if (bytes < want) return WEFT_ERR_MEMORY;
    v->stream = stream;
    weft_device_layout(v, weft_align_memory(memory), n, sources);
    e = cudaGetDevice(&device);
    if (e == cudaSuccess) e = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    v->grid = (unsigned)processors * (2048u / WEFT_DEVICE_THREADS);
    /* the sums are written before they are read */
    if (e == cudaSuccess)
        e = cudaMemsetAsync(v->state, 0, (size_t)((unsigned char *)v->slot - (unsigned char *)v->state), stream);
    return weft_device_said(v, e);
}

/* One thread for each packet, or each single element if those are more. */
WEFT_FN size_t weft_device_grid(size_t single, size_t packets) {
    const size_t threads = single > packets ? single : packets;
    return threads / WEFT_DEVICE_THREADS + (threads % WEFT_DEVICE_THREADS != 0);
}

template <typename J>
WEFT_FN weft_status weft_device_launch(weft_device *v, void (*kernel)(const J), size_t blocks, const J *job) {
    const unsigned grid = blocks < 1 ? 1 : blocks < v->grid ? (unsigned)blocks : v->grid;
    cudaError_t e = cudaSuccess;
    WEFT_LAUNCH(e, kernel, grid, WEFT_DEVICE_THREADS, sizeof(weft_device_word) * (WEFT_DEVICE_THREADS / 32), v->stream,
                *job);
    return weft_device_said(v, e);
}

/* Two arrays change places: a multiple of four bytes, aligned to as many. */
WEFT_FN weft_status weft_device_exchange(weft_device *v, void *a, void *b, size_t bytes) {
    weft_device_job d;
    memset(&d, 0, sizeof d);
    d.array[0] = a;
    d.array[1] = b;
    d.n = bytes / 4;
    return d.n ? weft_device_launch(v, weft_device_swap, weft_device_grid(d.n, 0), &d) : WEFT_OK;
}

/* As weft_float_probe, of the device: total->count is 0 once the stream has come here, or the kernels were compiled to
 * flush subnormals. */
WEFT_FN weft_status weft_device_float_probe(weft_device *v, weft_slot *total) {
    weft_device_job d;
    memset(&d, 0, sizeof d);
    d.a = (double)weft_bits_f32(1u);
    d.b = (double)weft_bits_f32(0x00800000u);
    d.total = total;
    return weft_device_launch(v, weft_device_probe, 1, &d);
}

/* Arrays that are aligned alike are done by packets from where those are aligned. */
WEFT_FN int weft_device_alike(const void *p, size_t packet, size_t *past, int found) {
    const size_t own = (size_t)((uintptr_t)p % packet);
    if (!found) *past = own;
    return *past == own;
}

/* The sources whose weight counts, in order, to the launch or, launch by launch, to the table. */
WEFT_FN weft_status weft_device_gather(weft_device *v, const weft_work *w, weft_device_job *d, size_t packet,
                                       size_t *past, int *alike) {
    weft_device_job part = *d;
    size_t i, n = 0;
    for (i = 0; i < w->sources; i++) {
        weft_device_source *const to = &part.source[n % WEFT_DEVICE_SOURCES];
        const double weight = d->wide || w->dtype == WEFT_F64 ? w->w[i] : (double)(float)w->w[i];
        if (weight == 0) continue;
        if (n == v->sources) return WEFT_ERR_CAPACITY;
        if (n && n % WEFT_DEVICE_SOURCES == 0) {
            weft_status s;
            part.first = n - WEFT_DEVICE_SOURCES;
            part.sources = WEFT_DEVICE_SOURCES;
            s = weft_device_launch(v, weft_device_note, 1, &part);
            if (s < 0) return s;
        }
        to->x = w->source[i];
        to->w = weight;
        n++;
        *alike &= weft_device_alike(to->x, packet, past, 1);
    }
    d->sources = n;
    memcpy(d->source, part.source, sizeof d->source);
    if (n <= WEFT_DEVICE_SOURCES) return WEFT_OK;
    d->tabled = 1;
    part.first = (n - 1) / WEFT_DEVICE_SOURCES * WEFT_DEVICE_SOURCES;
    part.sources = n - (size_t)part.first;
    return weft_device_launch(v, weft_device_note, 1, &part);
}

/* Enqueues the work (a weighted sum with a != 0: all in f64, rounded once). What it yields, sums first, then counts,
 * goes to `total`: WEFT_SLOTS slots of device or pinned memory, or NULL if it yields nothing or a weighted sum's count
 * is not wanted. Of the work's pointers only those to the arrays and sources are kept. */
WEFT_FN weft_status weft_device_run(weft_device *v, const weft_work *w, weft_slot *total) {
    const size_t each = weft_dtype_bytes(w->dtype), elements = each == 8 ? 2 : 4, packet = elements * each;
    const int wide = w->dtype == WEFT_F64;
    weft_device_job d;
    size_t past = 0, i;
    int alike = 1, found = 0;
    weft_status s;
#define WEFT_ROUNDED(value) (wide ? (value) : (double)(float)(value))
    if (w->op == WEFT_OP_COPY)
        return w->array[0] == w->array[1] || !w->n
                   ? WEFT_OK
                   : weft_device_said(v, cudaMemcpyAsync(w->array[1], w->array[0], w->n * each,
                                                         cudaMemcpyDeviceToDevice, v->stream));
    if (!total && (w->sums || (w->counts && w->op != WEFT_OP_WEIGHTED_SUM))) return WEFT_ERR_ARGUMENT;
    memset(&d, 0, sizeof d);
    d.op = w->op;
    d.dtype = w->dtype;
    d.n = w->n;
    d.reads = w->reads;
    d.writes = w->op == WEFT_OP_WEIGHTED_SUM ? 1u : w->writes;
    d.sums = w->sums;
    d.counts = total ? w->counts : 0;
    d.a = WEFT_ROUNDED(w->op == WEFT_OP_PULL ? 1.0 - w->a : w->a);
    d.b = WEFT_ROUNDED(w->a);
    d.first = w->first;
    d.own = *v;
    d.total = total;
    for (i = 0; i < 3; i++) {
        d.array[i] = w->array[i];
        if (!((d.reads | d.writes) >> i & 1u)) continue;
        alike &= weft_device_alike(d.array[i], packet, &past, found);
        found = 1;
    }
    if (w->sums) {
        d.blocks = d.n ? (d.n - 1) / WEFT_BLOCK + 1 : 1;
        if (d.blocks > v->blocks) return WEFT_ERR_CAPACITY;
        if (w->sgd) {
            d.a = WEFT_ROUNDED(w->sgd->learning_rate);
            d.b = WEFT_ROUNDED(w->sgd->momentum);
            d.decay = WEFT_ROUNDED(w->sgd->weight_decay);
            d.nesterov = w->sgd->nesterov;
            d.first_step = w->sgd->first;
        }
        return weft_device_launch(v, wide ? weft_device_sums<double> : weft_device_sums<float>,
                                  (d.blocks - 1) / WEFT_DEVICE_PIECE + 1, &d);
    }
#undef WEFT_ROUNDED
    if (!d.n && !d.counts) return WEFT_OK;
    if (w->op == WEFT_OP_WEIGHTED_SUM) {
        d.wide = w->a != 0;
        s = weft_device_gather(v, w, &d, packet, &past, &alike);
        if (s < 0) return s;
    }
    if (alike) {
        d.head = past ? (packet - past) / each : 0;
        if (d.head > d.n) d.head = d.n;
        d.packets = (d.n - d.head) / elements;
    }
    return weft_device_launch(v, wide ? weft_device_elements<double> : weft_device_elements<float>,
                              weft_device_grid(d.n - d.packets * elements, d.packets), &d);
}
