/*==== SECTION WEFT_DEVICE_CODEC ====*/
/* Codecs (codec.h) on device pointers, with the bytes and bits of the serial kernels: tensors, what is kept of them and
 * messages are device memory, messages of any alignment. A block of the codec is done by a block of threads, an element
 * by a thread. What comes of a launch is in a state that is fetched with the host's next wait. */

enum { WEFT_DEVICE_BINS = 2048, WEFT_DEVICE_CELLS = WEFT_DEVICE_THREADS + WEFT_DEVICE_THREADS / 32 };

/* Zero before each work; those that find something add to it. */
typedef struct weft_device_found {
    weft_device_word nonfinite; /* elements that were left out; values of a message */
    weft_device_word index;     /* of a message: one that does not follow, plus 1 */
    weft_device_word zeros;     /* SIGN: elements that are 0 */
    weft_device_word pairs;     /* what the blocks' counts add up to */
    weft_device_word bits;      /* TOPK: the magnitude of this rank, ... */
    weft_device_word left, same; /* ... the rank among those of this magnitude, and how many there are */
    weft_device_word last;      /* ... and where it is, plus 1 */
} weft_device_found;

/* What a launch is told. */
typedef struct weft_device_code {
    weft_device_job sum; /* of works with sums; else only n, `own` and dtype count */
    weft_codec_kind kind;
    weft_codec_form form;
    unsigned bits, shift, width;
    int add, equal, squares;
    size_t first; /* element of the tensor with which the chunk begins */
    const void *z;
    void *kept, *out;
    const double *uniform;
    uint64_t key, least;
    size_t last, bytes, pairs; /* bytes: of the message */
    double step, norm, weight;
    unsigned char *message;
    weft_device_found *found;
    unsigned *bin, *count; /* count: one a block */
} weft_device_code;

/* ---- values in messages ---- */
WEFT_DEVICE void weft_device_put16(unsigned char *p, unsigned v) {
    p[0] = (unsigned char)(v & 0xFFu);
    p[1] = (unsigned char)(v >> 8 & 0xFFu);
}
WEFT_DEVICE unsigned weft_device_get16(const unsigned char *p) {
    return p[0] | (unsigned)p[1] << 8;
}
WEFT_DEVICE void weft_device_put32(unsigned char *p, unsigned v) {
    if ((uintptr_t)p % 4 == 0) {
        *(unsigned *)(void *)p = v;
    } else {
        weft_device_put16(p, v);
        weft_device_put16(p + 2, v >> 16);
    }
}
WEFT_DEVICE unsigned weft_device_get32(const unsigned char *p) {
    if ((uintptr_t)p % 4 == 0) return *(const unsigned *)(const void *)p;
    return weft_device_get16(p) | weft_device_get16(p + 2) << 16;
}
WEFT_DEVICE void weft_device_put_value(unsigned char *p, float v) {
    weft_device_put32(p, __float_as_uint(v));
}
WEFT_DEVICE void weft_device_put_value(unsigned char *p, double v) {
    const uint64_t b = weft_device_bits(v);
    weft_device_put32(p, (unsigned)(b & 0xFFFFFFFFu));
    weft_device_put32(p + 4, (unsigned)(b >> 32));
}
WEFT_DEVICE void weft_device_get_value(const unsigned char *p, float *v) {
    *v = __uint_as_float(weft_device_get32(p));
}
WEFT_DEVICE void weft_device_get_value(const unsigned char *p, double *v) {
    *v = __longlong_as_double((long long)(weft_device_get32(p) | (uint64_t)weft_device_get32(p + 4) << 32));
}
WEFT_DEVICE uint64_t weft_device_magnitude(float v) {
    return weft_device_bits(v) & 0x7FFFFFFFu;
}
WEFT_DEVICE uint64_t weft_device_magnitude(double v) {
    return weft_device_bits(v) & UINT64_C(0x7FFFFFFFFFFFFFFF);
}
WEFT_DEVICE unsigned weft_device_is_minus(float v) {
    return (unsigned)(weft_device_bits(v) >> 31);
}
WEFT_DEVICE unsigned weft_device_is_minus(double v) {
    return (unsigned)(weft_device_bits(v) >> 63);
}

/* As weft_draw, weft_codec_block_key. */
WEFT_DEVICE uint64_t weft_device_block_key(uint64_t key, size_t at) {
    return weft_device_mix(key + WEFT_HASH_KEY * ((uint64_t)(at / WEFT_CODEC_BLOCK) + 1));
}
WEFT_DEVICE unsigned weft_device_draw(uint64_t key, unsigned i) {
    unsigned x = i * WEFT_DRAW_STEP + (unsigned)(key & 0xFFFFFFFFu);
    x = (x ^ x >> 16) * WEFT_DRAW_MUL1 + (unsigned)(key >> 32);
    x = (x ^ x >> 15) * WEFT_DRAW_MUL2;
    return x ^ x >> 15;
}

/* Element i of t = z, z + kept or z - kept; what is not finite is left out, and counted. */
template <typename T> WEFT_DEVICE T weft_device_code_of(const weft_device_code &j, size_t i, unsigned *bad) {
    T t, kept = 0;
    weft_device_load<1>(j.sum.dtype, j.z, i, &t);
    if (j.form) kept = ((const T *)j.kept)[i];
    if (j.form == WEFT_CODEC_FEEDBACK) t = weft_device_add(t, kept);
    if (j.form == WEFT_CODEC_DIFFERENCE) t = weft_device_sub(t, kept);
    if (!weft_device_nonfinite(t)) return t;
    ++*bad;
    return j.form == WEFT_CODEC_FEEDBACK && !weft_device_nonfinite(kept) ? kept : (T)0;
}

template <typename T> WEFT_DEVICE int weft_device_is_sent(const weft_device_code &j, T t, size_t i) {
    const uint64_t m = weft_device_magnitude(t);
    return j.equal ? m == j.least : m > j.least || (m == j.least && i <= j.last);
}

/* ---- counting, block by block, and where each block's begin ---- */

/* How many of the block's threads before this one say yes; *all: of all its threads. Cells of warps are free after the
 * caller's next barrier. */
WEFT_DEVICE unsigned weft_device_before(unsigned *cell, int yes, unsigned *all) {
    const unsigned ballot = __ballot_sync(0xFFFFFFFFu, yes), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned before = (unsigned)__popc(ballot & ((1u << lane) - 1u));
    if (lane == 0) cell[warp] = (unsigned)__popc(ballot);
    __syncthreads(); /* all warps have counted */
    *all = 0;
    for (unsigned w = 0; w < WEFT_DEVICE_THREADS / 32; w++) {
        if (w < warp) before += cell[w];
        *all += cell[w];
    }
    return before;
}

template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_code_counts(const weft_device_code j) {
    WEFT_SHARED(unsigned, weft_shared_cells);
    unsigned *const cell = weft_shared_cells;
    for (size_t at = (size_t)blockIdx.x * WEFT_CODEC_BLOCK; at < j.sum.n; at += (size_t)gridDim.x * WEFT_CODEC_BLOCK) {
        const size_t i = at + threadIdx.x;
        unsigned bad = 0, all;
        const int yes =
            i < j.sum.n && weft_device_is_sent(j, weft_device_code_of<T>(j, j.first + i, &bad), j.first + i);
        weft_device_before(cell, yes, &all);
        if (threadIdx.x == 0) j.count[at / WEFT_CODEC_BLOCK] = all;
        __syncthreads(); /* the cells are free */
    }
}

/* From counts to where they begin; by one block of threads. */
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_code_places(const weft_device_code j) {
    WEFT_SHARED(unsigned, weft_shared_cells);
    unsigned *const cell = weft_shared_cells;
    const size_t blocks = (j.sum.n - 1) / WEFT_CODEC_BLOCK + 1;
    unsigned begin = 0;
    for (size_t b = 0; b < blocks; b += WEFT_DEVICE_THREADS) {
        const unsigned own = b + threadIdx.x < blocks ? j.count[b + threadIdx.x] : 0;
        unsigned sum = own;
        cell[threadIdx.x] = sum;
        __syncthreads();
        for (unsigned far = 1; far < WEFT_DEVICE_THREADS; far *= 2) {
            if (threadIdx.x >= far) sum += cell[threadIdx.x - far];
            __syncthreads(); /* read by all */
            cell[threadIdx.x] = sum;
            __syncthreads();
        }
        if (b + threadIdx.x < blocks) j.count[b + threadIdx.x] = begin + sum - own;
        begin += cell[WEFT_DEVICE_THREADS - 1];
        __syncthreads();
    }
    if (threadIdx.x == 0) j.found->pairs = begin;
}

/* ---- what must be known of the whole tensor ---- */

/* Into the bins: the magnitudes whose bits above shift + width are those of `bits`, by the bits from shift on. */
template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_code_bins(const weft_device_code j) {
    WEFT_SHARED(unsigned, weft_shared_bins);
    unsigned *const bin = weft_shared_bins;
    const uint64_t above = j.found->bits >> j.shift >> j.width;
    unsigned bad = 0;
    for (unsigned i = threadIdx.x; i < WEFT_DEVICE_BINS; i += WEFT_DEVICE_THREADS) bin[i] = 0;
    __syncthreads();
    for (size_t i = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x; i < j.sum.n;
         i += (size_t)gridDim.x * WEFT_DEVICE_THREADS) {
        const uint64_t m = weft_device_magnitude(weft_device_code_of<T>(j, i, &bad));
        if (m >> j.shift >> j.width == above) atomicAdd(&bin[m >> j.shift & ((1u << j.width) - 1u)], 1u);
    }
    __syncthreads(); /* all is in the bins */
    for (unsigned i = threadIdx.x; i < WEFT_DEVICE_BINS; i += WEFT_DEVICE_THREADS)
        if (bin[i]) atomicAdd(&j.bin[i], bin[i]);
    if (bad && j.equal) atomicAdd(&j.found->nonfinite, (weft_device_word)bad); /* in one of the passes */
}

/* The bin in which the rank `left` lies, counted from the highest; empties the bins. By one block of threads. */
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_code_bin(const weft_device_code j) {
    WEFT_SHARED(unsigned, weft_shared_cells);
    unsigned *const cell = weft_shared_cells;
    enum { EACH = WEFT_DEVICE_BINS / WEFT_DEVICE_THREADS };
    unsigned *const own = j.bin + (WEFT_DEVICE_THREADS - 1 - threadIdx.x) * EACH; /* the first has the highest */
    const weft_device_word left = j.found->left;
    weft_device_word above = 0;
    unsigned sum = 0;
    for (unsigned i = 0; i < EACH; i++) sum += own[i];
    cell[threadIdx.x] = sum;
    __syncthreads(); /* all sums are there, and `left` has been read */
    for (unsigned i = 0; i < threadIdx.x; i++) above += cell[i];
    if (above < left && left <= above + sum) {
        unsigned i = EACH;
        while (above + own[--i] < left) above += own[i];
        j.found->bits |= (weft_device_word)((WEFT_DEVICE_THREADS - 1 - threadIdx.x) * EACH + i) << j.shift;
        j.found->left = left - above;
        j.found->same = own[i];
    }
    for (unsigned i = 0; i < EACH; i++) own[i] = 0;
}

/* Where the `pairs`-th of those that were counted is. */
template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_code_where(const weft_device_code j) {
    WEFT_SHARED(unsigned, weft_shared_cells);
    unsigned *const cell = weft_shared_cells;
    for (size_t at = (size_t)blockIdx.x * WEFT_CODEC_BLOCK; at < j.sum.n; at += (size_t)gridDim.x * WEFT_CODEC_BLOCK) {
        const size_t i = at + threadIdx.x;
        unsigned bad = 0, all, before;
        const int yes = i < j.sum.n && weft_device_is_sent(j, weft_device_code_of<T>(j, i, &bad), i);
        before = weft_device_before(cell, yes, &all);
        if (yes && (size_t)j.count[at / WEFT_CODEC_BLOCK] + before + 1 == j.pairs) j.found->last = i + 1;
        __syncthreads();
    }
}

/* The sum of squares, or of magnitudes, as the kernels' contract has it. */
template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_code_sums(const weft_device_code j) {
    const unsigned lane = threadIdx.x % WEFT_LANES_OF_A_BLOCK, mine = threadIdx.x / WEFT_LANES_OF_A_BLOCK;
    const size_t pieces = (j.sum.blocks - 1) / WEFT_DEVICE_PIECE + 1;
    const weft_device_word epoch = ((const volatile weft_device_state *)j.sum.own.state)->epoch;
    for (;;) {
        const size_t piece = weft_device_take(j.sum.own.state), b = piece * WEFT_DEVICE_PIECE + mine;
        const size_t at = b * WEFT_BLOCK, end = j.sum.n - at < WEFT_BLOCK ? j.sum.n : at + WEFT_BLOCK;
        double sum = 0.0;
        unsigned bad = 0;
        if (piece >= pieces) break;
        if (b < j.sum.blocks)
            for (size_t i = at + lane; i < end; i += WEFT_LANES_OF_A_BLOCK) {
                const T t = weft_device_code_of<T>(j, i, &bad);
                sum = j.squares ? weft_device_madd(sum, t, t)
                                : __dadd_rn(sum, weft_device_is_minus(t) ? -(double)t : (double)t);
            }
        if (bad) atomicAdd(&j.sum.own.state->count, (weft_device_word)bad);
        sum = weft_device_tree(sum);
        if (lane == 0 && b < j.sum.blocks) j.sum.own.slot[b] = sum;
        __syncthreads(); /* all blocks' sums are there */
        if (threadIdx.x < 32) weft_device_add_up(j.sum, pieces, piece, epoch);
    }
    weft_device_taken(j.sum.own.state);
}

/* ---- encoding ---- */

/* The step of a block, and what its elements are multiplied with, in the first two cells. As weft_codec_step_of. */
WEFT_DEVICE void weft_device_step_of(unsigned *cell, unsigned most, double s) {
    const double limit = WEFT_CODEC_F32_MAX / 128.0, least = 7.888609052210118e-31; /* 2^-100 */
    double top, step, places;
    for (unsigned half = 16; half; half /= 2) {
        const unsigned other = __shfl_down_sync(0xFFFFFFFFu, most, half);
        if (other > most) most = other;
    }
    if (threadIdx.x % 32 == 0) cell[threadIdx.x / 32] = most;
    __syncthreads(); /* all warps' largest are there */
    if (threadIdx.x == 0) {
        for (unsigned w = 1; w < WEFT_DEVICE_THREADS / 32; w++)
            if (cell[w] > most) most = cell[w];
        top = (double)__uint_as_float(most);
        step = __ddiv_rn(__dmul_rn(top, 1.0 + WEFT_CODEC_NUDGE), s);
        if (!most) {
            step = places = 0.0;
        } else if (step < least) {
            step = least;
            places = 16777216.0 / least;
        } else {
            if (step > limit) step = limit;
            places = __ddiv_rn(__dmul_rn(__dmul_rn(16777216.0, s), 1.0 - WEFT_CODEC_NUDGE), top);
        }
        cell[0] = __float_as_uint((float)step);
        cell[1] = __float_as_uint((float)places);
    }
    __syncthreads();
}

WEFT_DEVICE float weft_device_limited(float v, float limit) {
    return v > limit ? limit : v < -limit ? -limit : v;
}
WEFT_DEVICE float weft_device_limited(double v, float limit) {
    return v > (double)limit ? limit : v < -(double)limit ? -limit : (float)v;
}

/* Q8 and Q4: element i of m of the block; returns what stands for it. */
WEFT_DEVICE float weft_device_quantise(const weft_device_code &j, unsigned *cell, size_t block, size_t m, float t) {
    const int q8 = j.kind == WEFT_CODEC_Q8;
    const unsigned i = threadIdx.x;
    const size_t half = (m + 1) / 2, whole = 4 + (q8 ? WEFT_CODEC_BLOCK : WEFT_CODEC_BLOCK / 2);
    unsigned char *const p = j.message + block * whole;
    float step, places;
    unsigned u;
    int code;
    weft_device_step_of(cell, (unsigned)weft_device_magnitude(t), q8 ? 127.0 : 7.0);
    step = __uint_as_float(cell[0]);
    places = __uint_as_float(cell[1]);
    u = weft_device_draw(weft_device_block_key(j.key, j.first + block * WEFT_CODEC_BLOCK), i) >> 8;
    code = (int)((unsigned)(int)weft_device_mul(t, places) + u) >> 24;
    if (i == 0) weft_device_put32(p, cell[0]);
    if (q8) {
        if (i < m) p[4 + i] = (unsigned char)((unsigned)code & 0xFFu);
        return weft_device_mul((float)code, step);
    }
    __syncthreads(); /* step and places have been read */
    cell[i] = i < m ? (unsigned)code & 15u : 0u;
    __syncthreads(); /* all codes are there */
    if (i < half) p[4 + i] = (unsigned char)(cell[i] | cell[i + half] << 4);
    return weft_device_mul((float)code, step);
}

/* A field of QSGD: element i of the tensor. */
template <typename T> WEFT_DEVICE unsigned weft_device_level(const weft_device_code &j, T t, size_t i) {
    const unsigned s = (1u << j.bits) - 1u;
    const double v = (double)t, size = v < 0 ? -v : v;
    const double ratio = j.norm > 0 ? __ddiv_rn(__dmul_rn((double)s, size), j.norm) : 0.0;
    double u;
    unsigned level = ratio < (double)s ? (unsigned)ratio : s;
    if (j.uniform)
        u = j.uniform[i];
    else
        u = (double)(weft_device_draw(weft_device_block_key(j.key, i), (unsigned)(i % WEFT_CODEC_BLOCK)) >> 8) /
            16777216.0;
    if (level < s && u < __dsub_rn(ratio, (double)level)) level++;
    return level << 1 | (unsigned)(level != 0 && v < 0);
}

template <typename T> WEFT_DEVICE T weft_device_of_level(unsigned v, double step) {
    const T level = (T)(v >> 1);
    return weft_device_mul(v & 1u ? -level : level, (T)step);
}

/* Fields of `bits` bits, one a cell, to bytes: the lowest bits first. */
WEFT_DEVICE void weft_device_write_bits(const unsigned *cell, unsigned bits, size_t fields, unsigned char *p) {
    const size_t bytes = (fields * bits + 7) / 8;
    for (size_t b = threadIdx.x; b < bytes; b += WEFT_DEVICE_THREADS) {
        const size_t at = 8 * b;
        unsigned v = 0;
        for (size_t f = at / bits; f < fields && f * bits < at + 8; f++)
            v |= f * bits >= at ? cell[f] << (f * bits - at) : cell[f] >> (at - f * bits);
        p[b] = (unsigned char)(v & 0xFFu);
    }
}

template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_encode(const weft_device_code j) {
    WEFT_SHARED(unsigned, weft_shared_cells);
    unsigned *const cell = weft_shared_cells;
    const size_t each = sizeof(T);
    for (size_t at = (size_t)blockIdx.x * WEFT_CODEC_BLOCK; at < j.sum.n; at += (size_t)gridDim.x * WEFT_CODEC_BLOCK) {
        const size_t left = j.sum.n - at, m = left < WEFT_CODEC_BLOCK ? left : WEFT_CODEC_BLOCK;
        const unsigned i = threadIdx.x;
        const size_t element = j.first + at + i;
        const int in = i < m;
        unsigned char *p = j.message;
        unsigned bad = 0;
        int sent = in; /* something stands for it, if only zero */
        T t = 0, q = 0;
        if (in) t = weft_device_code_of<T>(j, element, &bad);
        if (bad) atomicAdd(&j.found->nonfinite, (weft_device_word)bad);
        switch (j.kind) {
        case WEFT_CODEC_IDENTITY:
            if (in) weft_device_put_value(p + (at + i) * each, t);
            q = t;
            break;
        case WEFT_CODEC_BF16:
        case WEFT_CODEC_F16: {
            const weft_dtype narrow = j.kind == WEFT_CODEC_BF16 ? WEFT_BF16 : WEFT_F16;
            const float limit = narrow == WEFT_BF16 ? __uint_as_float(0x7F7F0000u) : 65504.0f;
            const uint16_t h = weft_device_narrow(narrow, weft_device_limited(t, limit));
            if (in) weft_device_put16(p + (at + i) * 2, h);
            q = (T)weft_device_widen(narrow, h);
            break;
        }
        case WEFT_CODEC_Q8:
        case WEFT_CODEC_Q4:
            q = (T)weft_device_quantise(j, cell, at / WEFT_CODEC_BLOCK, m,
                                        weft_device_limited(t, (float)WEFT_CODEC_F32_MAX));
            break;
        case WEFT_CODEC_QSGD:
            if (element == j.first) weft_device_put_value(p, (T)j.step);
            cell[i] = in ? weft_device_level(j, t, element) : 0u;
            q = weft_device_of_level<T>(cell[i], j.step);
            __syncthreads(); /* all fields are there */
            weft_device_write_bits(cell, j.bits + 1, m, p + each + at / 8 * (j.bits + 1));
            break;
        case WEFT_CODEC_SIGN: {
            const unsigned none = in && weft_device_magnitude(t) == 0, lane = i % 32;
            const unsigned minus = __ballot_sync(0xFFFFFFFFu, in && weft_device_is_minus(t));
            const unsigned zeros = __ballot_sync(0xFFFFFFFFu, (int)none);
            if (element == j.first) weft_device_put_value(p, (T)j.step);
            p += each + 4;
            if (lane < 4 && (i - lane) + 8 * lane < m) {
                const size_t byte = (at + i - lane) / 8 + lane;
                p[byte] = (unsigned char)(minus >> 8 * lane & 0xFFu);
                p[(j.sum.n + 7) / 8 + byte] = (unsigned char)(zeros >> 8 * lane & 0xFFu);
            }
            if (lane == 0 && zeros) atomicAdd(&j.found->zeros, (weft_device_word)__popc(zeros));
            if (!none) q = weft_device_is_minus(t) ? -(T)j.step : (T)j.step;
            break;
        }
        case WEFT_CODEC_TOPK: {
            unsigned all, pair;
            sent = in && weft_device_is_sent(j, t, element);
            pair = weft_device_before(cell, sent, &all) + j.count[at / WEFT_CODEC_BLOCK];
            /* there is room for all if the data are those that have been measured */
            if (sent && (pair + (size_t)1) * (4 + each) <= j.bytes) {
                p += pair * (4 + each);
                weft_device_put32(p, (unsigned)(at + i));
                weft_device_put_value(p + 4, t);
            }
            if (sent) q = t;
            break;
        }
        }
        if (in && j.form == WEFT_CODEC_FEEDBACK) ((T *)j.kept)[element] = weft_device_sub(t, q);
        if (sent && j.form == WEFT_CODEC_DIFFERENCE)
            ((T *)j.kept)[element] = weft_device_add(((const T *)j.kept)[element], q);
        __syncthreads(); /* the cells are free */
    }
}

/* ---- decoding ---- */

/* Looks at a message of values, codes or pairs: are they finite, and do the pairs' indices ascend, below n? */
template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_inspect(const weft_device_code j) {
    const size_t each = sizeof(T), threads = (size_t)gridDim.x * WEFT_DEVICE_THREADS;
    const size_t me = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x;
    const unsigned char *const p = j.message;
    unsigned bad = 0;
    T v;
    switch (j.kind) {
    case WEFT_CODEC_TOPK:
        for (size_t i = me; i < j.pairs; i += threads) {
            const unsigned char *const pair = p + i * (4 + each);
            const unsigned index = weft_device_get32(pair);
            if (index >= j.sum.n || (i && index <= weft_device_get32(pair - (4 + each))))
                atomicExch(&j.found->index, (weft_device_word)index + 1);
            weft_device_get_value(pair + 4, &v);
            bad += weft_device_nonfinite(v);
        }
        break;
    case WEFT_CODEC_IDENTITY:
        for (size_t i = me; i < j.sum.n; i += threads) {
            weft_device_get_value(p + i * each, &v);
            bad += weft_device_nonfinite(v);
        }
        break;
    case WEFT_CODEC_BF16:
    case WEFT_CODEC_F16:
        for (size_t i = me; i < j.sum.n; i += threads)
            bad += weft_device_nonfinite(weft_device_widen(j.kind == WEFT_CODEC_BF16 ? WEFT_BF16 : WEFT_F16,
                                                           weft_device_get16(p + i * 2)));
        break;
    default: /* Q8, Q4: a step for each block */
        for (size_t i = me; i * WEFT_CODEC_BLOCK < j.sum.n; i += threads) {
            const size_t whole = 4 + (j.kind == WEFT_CODEC_Q8 ? WEFT_CODEC_BLOCK : WEFT_CODEC_BLOCK / 2);
            const float step = __uint_as_float(weft_device_get32(p + i * whole));
            bad += !(step >= 0 && (double)step <= WEFT_CODEC_F32_MAX / 128.0);
        }
        break;
    }
    if (bad) atomicAdd(&j.found->nonfinite, (weft_device_word)bad);
}

/* out = q, or out + weight * q */
template <typename T> WEFT_DEVICE void weft_device_take_in(const weft_device_code &j, size_t i, T q) {
    if (j.add) {
        T was;
        weft_device_load<1>(j.sum.dtype, j.out, i, &was);
        q = weft_device_add(was, weft_device_mul((T)j.weight, q));
    }
    weft_device_store<1>(j.sum.dtype, j.out, i, &q);
}

/* The pairs of TOPK. */
template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_decode_pairs(const weft_device_code j) {
    const size_t threads = (size_t)gridDim.x * WEFT_DEVICE_THREADS;
    for (size_t i = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x; i < j.pairs; i += threads) {
        const unsigned char *const pair = j.message + i * (4 + sizeof(T));
        T q;
        weft_device_get_value(pair + 4, &q);
        weft_device_take_in(j, j.first + weft_device_get32(pair), q);
    }
}

/* All other messages. */
template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_decode(const weft_device_code j) {
    const size_t each = sizeof(T), threads = (size_t)gridDim.x * WEFT_DEVICE_THREADS;
    for (size_t i = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x; i < j.sum.n; i += threads) {
        const size_t in = i % WEFT_CODEC_BLOCK, at = i - in, left = j.sum.n - at;
        const unsigned char *p = j.message;
        T q;
        switch (j.kind) {
        case WEFT_CODEC_IDENTITY: weft_device_get_value(p + i * each, &q); break;
        case WEFT_CODEC_BF16: q = (T)weft_device_widen(WEFT_BF16, weft_device_get16(p + i * 2)); break;
        case WEFT_CODEC_F16: q = (T)weft_device_widen(WEFT_F16, weft_device_get16(p + i * 2)); break;
        case WEFT_CODEC_Q8:
            p += at / WEFT_CODEC_BLOCK * (4 + WEFT_CODEC_BLOCK);
            q = (T)weft_device_mul((float)(int8_t)p[4 + in], __uint_as_float(weft_device_get32(p)));
            break;
        case WEFT_CODEC_Q4: {
            const size_t half = ((left < WEFT_CODEC_BLOCK ? left : WEFT_CODEC_BLOCK) + 1) / 2;
            p += at / WEFT_CODEC_BLOCK * (4 + WEFT_CODEC_BLOCK / 2);
            const unsigned v = in < half ? p[4 + in] & 15u : (unsigned)p[4 + in - half] >> 4;
            q = (T)weft_device_mul((float)((int)(v ^ 8u) - 8), __uint_as_float(weft_device_get32(p)));
            break;
        }
        case WEFT_CODEC_QSGD: {
            const size_t first = in * (j.bits + 1), byte = each + at / 8 * (j.bits + 1) + first / 8;
            unsigned v = 0;
            for (unsigned b = 0; b < 3 && byte + b < j.bytes; b++) v |= (unsigned)p[byte + b] << 8 * b;
            q = weft_device_of_level<T>(v >> first % 8 & ((2u << j.bits) - 1u), j.step);
            break;
        }
        default: { /* SIGN; `equal`: with zeros */
            const unsigned char *const sign = p + each + 4, *const zero = sign + (j.sum.n + 7) / 8;
            q = sign[i / 8] >> i % 8 & 1u ? -(T)j.step : (T)j.step;
            if (j.equal && (zero[i / 8] >> i % 8 & 1u)) q = 0;
            break;
        }
        }
        weft_device_take_in(j, j.first + i, q);
    }
}

/* ---- on the host ---- */

/* The parts of the memory for tensors of at most n elements. Returns its bytes; 0: too many. */
WEFT_FN size_t weft_device_codec_layout(weft_device_code *j, unsigned char *base, size_t n) {
    weft_layout l;
    memset(&l, 0, sizeof l);
    l.base = base;
    j->found = (weft_device_found *)weft_layout_take(&l, "found", 1, sizeof *j->found);
    j->bin = (unsigned *)weft_layout_take(&l, "bins", WEFT_DEVICE_BINS, sizeof *j->bin);
    j->count = (unsigned *)weft_layout_take(&l, "counts", n / WEFT_CODEC_BLOCK + 1, sizeof *j->count);
    return weft_layout_total(&l);
}

/* Room for the works of codecs on tensors as large as those of the list. */
WEFT_FN void weft_gpu_codec_layout(weft_layout *l, weft_gpu *u, const weft_tensors *t) {
    weft_device_code j;
    size_t i, most = 0, bytes;
    if (!l->apart) return;
    for (i = 0; i < t->count; i++)
        if (t->tensor[i].count > most) most = t->tensor[i].count;
    if ((bytes = weft_device_codec_layout(&j, NULL, most)) == 0)
        l->overflow = 1;
    else
        u->codec = (unsigned char *)weft_layout_data(l, WEFT_TEXT("device codecs"), bytes, 1);
}

WEFT_FN weft_status weft_device_code_launch(weft_gpu *u, void (*kernel)(const weft_device_code), size_t blocks,
                                            size_t cells, const weft_device_code *j) {
    const unsigned most = u->device.grid, grid = blocks < 1 ? 1 : blocks < most ? (unsigned)blocks : most;
    cudaError_t e = cudaSuccess;
    WEFT_LAUNCH(e, kernel, grid, WEFT_DEVICE_THREADS, cells * sizeof(unsigned), u->device.stream, *j);
    return weft_device_said(&u->device, e);
}

/* Launches a kernel for the type with a block of threads for every 256 of n, and room for a cell of each, or bins. */
#define WEFT_DEVICE_CODE(u, kernel, n, cells, j)                                                                       \
    weft_gpu_note(u, weft_device_code_launch(u, (j)->sum.dtype == WEFT_F64 ? kernel<double> : kernel<float>,           \
                                             (n) / WEFT_CODEC_BLOCK + ((n) % WEFT_CODEC_BLOCK != 0), cells, j))

/* Begins a work on n elements from `first` on: nothing is found yet. */
WEFT_FN weft_device_code weft_device_code_make(weft_gpu *u, const weft_codec *c, weft_dtype t, size_t first, size_t n) {
    weft_device_code j;
    memset(&j, 0, sizeof j);
    weft_device_codec_layout(&j, u->codec, 0);
    j.kind = c->kind;
    j.bits = c->bits;
    j.first = first;
    j.sum.dtype = t;
    j.sum.n = n;
    j.sum.own = u->device;
    weft_data_zero(u, j.found, sizeof *j.found);
    return j;
}

WEFT_FN weft_device_code weft_device_code_job(weft_gpu *u, const weft_codec_job *of, size_t first, size_t n) {
    weft_device_code j = weft_device_code_make(u, of->codec, of->dtype, first, n);
    j.form = of->form;
    j.z = of->data;
    j.kept = of->kept;
    j.key = of->key;
    j.uniform = of->uniform;
    return j;
}

/* What has been found; all zero after a failure, of which the object tells. */
WEFT_FN weft_device_found weft_device_code_found(weft_gpu *u, const weft_device_code *j) {
    weft_device_found f;
    weft_gpu_move(u, &f, j->found, sizeof f, cudaMemcpyDeviceToHost);
    if (u->failed < 0) memset(&f, 0, sizeof f);
    return f;
}

/* As weft_codec_sum. */
WEFT_FN double weft_gpu_codec_sum(weft_gpu *u, const weft_codec_job *of, int squares, uint64_t *nonfinite) {
    weft_device_code j = weft_device_code_job(u, of, 0, of->count);
    weft_slot total[2];
    j.squares = squares;
    j.sum.sums = j.sum.counts = 1;
    j.sum.blocks = (of->count - 1) / WEFT_BLOCK + 1;
    j.sum.total = u->total;
    WEFT_DEVICE_CODE(u, weft_device_code_sums, (j.sum.blocks - 1) / WEFT_DEVICE_PIECE * WEFT_CODEC_BLOCK + 1,
                     WEFT_DEVICE_CELLS, &j);
    weft_gpu_fetch(u, WEFT_OK, total, 2);
    *nonfinite += total[1].count;
    return total[0].sum;
}

/* Leaves in j->count where each block's elements that are sent (or, with `equal`, of this magnitude) begin. */
WEFT_FN void weft_gpu_codec_places(weft_gpu *u, weft_device_code *j) {
    WEFT_DEVICE_CODE(u, weft_device_code_counts, j->sum.n, WEFT_DEVICE_CELLS, j);
    weft_gpu_note(u, weft_device_code_launch(u, weft_device_code_places, 1, WEFT_DEVICE_CELLS, j));
}

/* As weft_codec_cut: the bits of the magnitude are found from the highest on, some with each pass. */
WEFT_FN void weft_gpu_codec_cut(weft_gpu *u, const weft_codec_job *of, weft_codec_scale *scale) {
    weft_device_code j = weft_device_code_job(u, of, 0, of->count);
    const weft_device_word rank = weft_codec_sent(of->codec, of->count);
    unsigned done = of->dtype == WEFT_F64 ? 63 : 31;
    weft_device_found f;
    weft_data_zero(u, j.bin, WEFT_DEVICE_BINS * sizeof *j.bin);
    weft_gpu_move(u, &j.found->left, &rank, sizeof rank, cudaMemcpyHostToDevice);
    for (j.equal = 1; done; j.equal = 0) {
        j.width = done < 11 ? done : 11;
        j.shift = done - j.width;
        WEFT_DEVICE_CODE(u, weft_device_code_bins, of->count, WEFT_DEVICE_BINS, &j);
        weft_gpu_note(u, weft_device_code_launch(u, weft_device_code_bin, 1, WEFT_DEVICE_CELLS, &j));
        done = j.shift;
    }
    f = weft_device_code_found(u, &j);
    scale->nonfinite = f.nonfinite;
    scale->least = f.bits;
    scale->last = of->count;
    if (f.same == f.left) return;
    j.equal = 1;
    j.least = f.bits;
    j.pairs = (size_t)f.left;
    weft_gpu_codec_places(u, &j);
    WEFT_DEVICE_CODE(u, weft_device_code_where, of->count, WEFT_DEVICE_CELLS, &j);
    scale->last = (size_t)(weft_device_code_found(u, &j).last - 1);
}

/* As weft_codec_encode, of a job that has been checked and whose message has room for `need` bytes. */
WEFT_FN void weft_gpu_codec_encode(weft_gpu *u, const weft_codec_job *of, const weft_codec_scale *scale, size_t first,
                                   size_t count, unsigned char *message, size_t need, size_t *bytes,
                                   uint64_t *nonfinite) {
    weft_device_code j = weft_device_code_job(u, of, first, count);
    const size_t each = weft_codec_value_bytes(of->dtype);
    weft_device_found f;
    j.message = message;
    j.bytes = *bytes = need;
    j.step = scale->step;
    j.norm = scale->norm;
    j.least = scale->least;
    j.last = scale->last;
    if (j.kind == WEFT_CODEC_TOPK) weft_gpu_codec_places(u, &j);
    WEFT_DEVICE_CODE(u, weft_device_encode, count, WEFT_DEVICE_CELLS, &j);
    f = weft_device_code_found(u, &j);
    if (nonfinite) *nonfinite += f.nonfinite;
    if (j.kind == WEFT_CODEC_TOPK) *bytes = (size_t)f.pairs * (4 + each) < need ? (size_t)f.pairs * (4 + each) : need;
    if (j.kind == WEFT_CODEC_SIGN) {
        unsigned char zeros[4];
        weft_put32(zeros, f.zeros != 0);
        weft_data_in(u, message + each, zeros, sizeof zeros);
        if (!f.zeros) *bytes -= (count + 7) / 8;
    }
}

/* Looks at the values and indices of a message, whose length is right. Is there an index that does not follow? */
WEFT_FN int weft_gpu_codec_inspect(weft_gpu *u, const weft_codec_reader *r, int *finite, uint32_t *index) {
    weft_device_code j = weft_device_code_make(u, r->codec, r->dtype, 0, r->count);
    weft_device_found f;
    j.message = (unsigned char *)(uintptr_t)r->p;
    j.pairs = r->pairs;
    WEFT_DEVICE_CODE(u, weft_device_inspect, r->count, 0, &j);
    f = weft_device_code_found(u, &j);
    *finite = f.nonfinite == 0;
    *index = (uint32_t)(f.index - 1);
    return f.index != 0;
}

/* Both ways to decode a message that has been checked. */
WEFT_FN void weft_gpu_codec_decode(weft_gpu *u, const weft_codec_reader *r, size_t first, int add, double weight,
                                   void *out) {
    weft_device_code j = weft_device_code_make(u, r->codec, r->dtype, first, r->count);
    const size_t each = weft_dtype_bytes(r->dtype);
    j.message = (unsigned char *)(uintptr_t)r->p;
    j.bytes = r->bytes;
    j.pairs = r->pairs;
    j.step = r->step;
    j.equal = r->zeros;
    j.add = add;
    j.weight = weight;
    j.out = out;
    if (r->codec->kind != WEFT_CODEC_TOPK) {
        WEFT_DEVICE_CODE(u, weft_device_decode, r->count, 0, &j);
        return;
    }
    if (!add) weft_data_zero(u, (unsigned char *)out + first * each, r->count * each);
    if (r->pairs) WEFT_DEVICE_CODE(u, weft_device_decode_pairs, r->pairs, 0, &j);
}
