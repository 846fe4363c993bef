/* Drivers: kernels over whole tensors, 16-bit types by way of f32, blocks over the host's threads. */

/* WEFT_OK, or WEFT_ERR_FLOAT_ENV if this thread flushes subnormals or does not round to nearest, or if the compiler
 * contracts or reassociates; detail.field says which. Operands are volatile, so that nothing is computed ahead of time,
 * and where it matters are read into locals, so that what is fused in a kernel is fused here. */
WEFT_FN weft_status weft_float_probe(weft_detail *d) {
    volatile float f_one = 1.0f, f_quarter = 2.98023223876953125e-8f; /* a quarter of 1's last place: 2^-25 */
    volatile float f_a = 1.000244140625f, f_c = -1.00048828125f;      /* 1 + 2^-12, -(1 + 2^-11) */
    volatile float f_tiny = weft_bits_f32(1u), f_small = weft_bits_f32(0x00800000u), f_out; /* subnormal, normal */
    volatile double d_one = 1.0, d_quarter = 5.5511151231257827e-17; /* 2^-54 */
    volatile double d_a = 1.0 + 1.0 / 134217728.0, d_c = -1.0 - 1.0 / 67108864.0; /* 1 + 2^-27, -(1 + 2^-26) */
    volatile double d_tiny = weft_bits_f64(1u), d_small = 2.2250738585072014e-308, d_out;
    const char *wrong = NULL;

    /* what is found later explains more than what was found before */
    f_out = f_small * 0.5f;
    d_out = d_small * 0.5;
    if (f_out == 0 || d_out == 0) wrong = WEFT_TEXT("subnormal results are flushed to zero");

    f_out = f_tiny * 1e20f;
    d_out = d_tiny * 1e200;
    if (f_out == 0 || d_out == 0) wrong = WEFT_TEXT("subnormal operands are taken as zero");

    { /* (1 + e)^2 - (1 + 2 e) is 0 if the product is rounded first, e^2 if it is not */
        const float fa = f_a, fc = f_c;
        const double da = d_a, dc = d_c;
        f_out = fa * fa + fc;
        d_out = da * da + dc;
    }
    if (f_out != 0 || d_out != 0) wrong = WEFT_TEXT("contraction (a * b + c is rounded once)");

    { /* a reassociating compiler finds the quarter here */
        const float fa = f_one, fb = f_quarter;
        const double da = d_one, db = d_quarter;
        f_out = (fa + fb) - fa;
        d_out = (da + db) - da;
    }
    if (f_out != 0 || d_out != 0) wrong = WEFT_TEXT("reassociation ((a + b) - a is b)");

    f_out = f_one + f_quarter;
    d_out = d_one + d_quarter;
    if (f_out == 1 && d_out == 1) { /* not upwards */
        f_out = f_one - f_quarter;
        d_out = d_one - d_quarter;
    }
    if (f_out != 1 || d_out != 1) wrong = WEFT_TEXT("rounding is not to nearest");

    return wrong ? weft_refuse(d, WEFT_ERR_FLOAT_ENV, wrong, 0, 1) : WEFT_OK;
}

/* The 16 lanes of a block in a pairwise tree. Overwrites the lanes. */
WEFT_FN double weft_lanes_sum(double *lanes) {
    size_t half, i;
    for (half = WEFT_LANES_OF_A_BLOCK / 2; half; half /= 2)
        for (i = 0; i < half; i++) lanes[i] += lanes[i + half];
    return lanes[0];
}

/* ---- one kernel over one tensor ---- */
typedef enum weft_op {
    WEFT_OP_COPY,
    WEFT_OP_SCALE,
    WEFT_OP_AXPY,
    WEFT_OP_PULL,
    WEFT_OP_PERTURB,
    WEFT_OP_WEIGHTED_SUM,
    WEFT_OP_DOT,
    WEFT_OP_SQNORM,
    WEFT_OP_DOTS,
    WEFT_OP_SGD,
    WEFT_OP_COUNT,
    WEFT_OP_HASH
} weft_op;

typedef struct weft_work {
    const weft_kernels *kernels;
    const weft_gradient_kernels *gradient; /* perturb, dot, dots, sgd */
    weft_op op;
    weft_dtype dtype;
    size_t n;
    void *array[3];                     /* in the order of the kernel's arguments */
    unsigned reads, writes;             /* bit i: array i is read, written */
    unsigned sums;                      /* f64 sums a block yields, ... */
    unsigned counts;                    /* ... and then whole numbers, 0 or 1 */
    double a;                           /* scale, axpy, pull, perturb */
    const weft_sgd *sgd;                /* sgd */
    const double *w;                    /* weighted sum */
    const void *const *source;          /* weighted sum */
    size_t sources;                     /* weighted sum */
    uint64_t first;                     /* hash: index of the tensor's first element */
} weft_work;

/* What a block yields: sums, then counts. */
typedef union weft_slot {
    double sum;
    uint64_t count;
} weft_slot;

#define WEFT_SLOTS 3

/* n elements of f32 or f64 at p, which begin with element `at` of the tensor. Returns the count. */
WEFT_FN uint64_t weft_work_apply(const weft_work *j, int wide, size_t at, size_t n, void *const *p, double *lanes,
                                 int stream) {
    const weft_kernel_set *s = wide ? &j->kernels->f64 : &j->kernels->f32;
    const weft_gradient_set *d = j->gradient ? wide ? &j->gradient->f64 : &j->gradient->f32 : NULL;
    switch (j->op) {
    case WEFT_OP_COPY: s->copy(n, p[0], p[1], stream); break;
    case WEFT_OP_SCALE: s->scale(n, j->a, p[0], p[1], stream); break;
    case WEFT_OP_AXPY: s->axpy(n, j->a, p[0], p[1]); break;
    case WEFT_OP_PULL: s->pull(n, j->a, p[0], p[1]); break;
    case WEFT_OP_PERTURB: d->sam_perturb(n, j->a, p[0], p[1], p[2], stream); break;
    case WEFT_OP_WEIGHTED_SUM: return s->weighted_sum(at, n, j->sources, j->w, j->source, j->array[0], stream);
    case WEFT_OP_DOT: d->dot_block(n, p[0], p[1], lanes); break;
    case WEFT_OP_SQNORM: s->sqnorm_block(n, p[0], lanes); break;
    case WEFT_OP_DOTS: d->dots_block(n, p[0], p[1], lanes); break;
    case WEFT_OP_SGD: return d->sgd_block(n, j->sgd, p[0], p[1], p[2], lanes);
    case WEFT_OP_COUNT: return s->count_nonfinite(n, p[0]);
    case WEFT_OP_HASH: return s->hash(n, j->first + at, p[0]);
    }
    return 0;
}

WEFT_FN void weft_widen(const weft_work *j, size_t n, const uint16_t *x, float *y) {
    (j->dtype == WEFT_BF16 ? j->kernels->bf16_to_f32 : j->kernels->f16_to_f32)(n, x, y);
}

WEFT_FN void weft_narrow(const weft_work *j, size_t n, const float *x, uint16_t *y) {
    (j->dtype == WEFT_BF16 ? j->kernels->f32_to_bf16 : j->kernels->f32_to_f16)(n, x, y);
}

/* The same for a 16-bit type: pieces go through f32 on the stack. */
WEFT_FN uint64_t weft_work_apply16(const weft_work *j, size_t at, size_t n, double *lanes) {
    const weft_kernel_set *s = &j->kernels->f32;
    float piece[3][WEFT_GROUP];
    void *p[3];
    uint64_t count = 0;
    size_t i, m;
    p[0] = piece[0];
    p[1] = piece[1];
    p[2] = piece[2];
    for (; n; n -= m, at += m) {
        m = n < WEFT_GROUP ? n : WEFT_GROUP;
        if (j->op == WEFT_OP_WEIGHTED_SUM) {
            /* as the kernel does it, source by source, the sum in f32; what counts is the rounded result */
            int started = 0;
            uint16_t *out = (uint16_t *)j->array[0] + at;
            for (i = 0; i < j->sources; i++) {
                if ((float)j->w[i] == 0) continue;
                weft_widen(j, m, (const uint16_t *)j->source[i] + at, piece[0]);
                if (started) s->axpy(m, j->w[i], piece[0], piece[1]);
                else s->scale(m, j->w[i], piece[0], piece[1], 0);
                started = 1;
            }
            if (!started) memset(piece[1], 0, sizeof piece[1]);
            weft_narrow(j, m, piece[1], out);
            weft_widen(j, m, out, piece[0]);
            count += s->count_nonfinite(m, piece[0]);
            continue;
        }
        for (i = 0; i < 3; i++)
            if (j->reads >> i & 1u) weft_widen(j, m, (const uint16_t *)j->array[i] + at, piece[i]);
        count += weft_work_apply(j, 0, at, m, p, lanes, 0);
        for (i = 0; i < 3; i++)
            if (j->writes >> i & 1u) weft_narrow(j, m, piece[i], (uint16_t *)j->array[i] + at);
    }
    return count;
}

/* Block `b` of the tensor: its sums and counts. */
WEFT_FN void weft_work_block(const weft_work *j, size_t b, weft_slot *slot) {
    double lanes[WEFT_SLOTS * WEFT_LANES_OF_A_BLOCK];
    const size_t at = b * WEFT_BLOCK, n = j->n - at < WEFT_BLOCK ? j->n - at : WEFT_BLOCK;
    uint64_t count;
    unsigned i;
    for (i = 0; i < j->sums * WEFT_LANES_OF_A_BLOCK; i++) lanes[i] = 0.0;
    if (weft_dtype_bytes(j->dtype) == 2) {
        if (j->op == WEFT_OP_COPY) {
            memmove((uint16_t *)j->array[1] + at, (const uint16_t *)j->array[0] + at, n * 2);
            return;
        }
        count = weft_work_apply16(j, at, n, lanes);
    } else {
        const size_t each = weft_dtype_bytes(j->dtype);
        void *p[3];
        for (i = 0; i < 3; i++) p[i] = j->array[i] ? (void *)((unsigned char *)j->array[i] + at * each) : NULL;
        count = weft_work_apply(j, j->dtype == WEFT_F64, at, n, p, lanes, j->kernels->stream);
    }
    for (i = 0; i < j->sums; i++) slot[i].sum = weft_lanes_sum(lanes + i * WEFT_LANES_OF_A_BLOCK);
    if (j->counts) slot[i].count = count;
}

/* What this thread has streamed is there for all that are told so from now on. */
WEFT_FN void weft_work_fence(const weft_work *j) {
    if (j->kernels->stream && j->kernels->fence) j->kernels->fence();
}

/* The total takes in the next block. */
WEFT_FN void weft_work_add(const weft_work *j, weft_slot *total, const weft_slot *slot) {
    unsigned i;
    for (i = 0; i < j->sums; i++) total[i].sum += slot[i].sum;
    if (j->counts) total[i].count += slot[i].count;
}

/* A piece is what a thread takes at a time. A wave of pieces is bounded by the room for the blocks' results, which the
 * calling thread adds up in order. */
#define WEFT_PIECE_BLOCKS ((size_t)16)
#define WEFT_WAVE_SLOTS ((size_t)2048)

typedef struct weft_wave {
    const weft_work *work;
    size_t first, end; /* blocks */
    weft_slot *slot;   /* of block `first`; NULL: blocks yield nothing */
} weft_wave;

WEFT_FN void weft_wave_piece(void *arg, size_t index) {
    const weft_wave *wave = (const weft_wave *)arg;
    const size_t each = wave->work->sums + wave->work->counts;
    size_t b = wave->first + index * WEFT_PIECE_BLOCKS, end = b + WEFT_PIECE_BLOCKS;
    if (end > wave->end) end = wave->end;
    for (; b < end; b++) weft_work_block(wave->work, b, each ? wave->slot + (b - wave->first) * each : NULL);
    weft_work_fence(wave->work);
}

/* Not inlined, so that its frame of 16 KiB is there only where a pool is. */
WEFT_FN WEFT_NOINLINE void weft_work_parallel(const weft_work *j, const weft_pool *pool, size_t blocks,
                                              weft_slot *total) {
    weft_slot slot[WEFT_WAVE_SLOTS];
    const size_t each = j->sums + j->counts;
    const size_t most = each ? WEFT_WAVE_SLOTS / each / WEFT_PIECE_BLOCKS * WEFT_PIECE_BLOCKS : blocks;
    weft_wave wave;
    size_t b;
    wave.work = j;
    wave.slot = slot;
    for (wave.first = 0; wave.first < blocks; wave.first = wave.end) {
        wave.end = blocks - wave.first < most ? blocks : wave.first + most;
        weft_parallel_for(pool, (wave.end - wave.first + WEFT_PIECE_BLOCKS - 1) / WEFT_PIECE_BLOCKS, weft_wave_piece,
                          &wave);
        if (each)
            for (b = wave.first; b < wave.end; b++) weft_work_add(j, total, slot + (b - wave.first) * each);
    }
}

#ifdef WEFT_CUDA
WEFT_FN void weft_gpu_run(struct weft_gpu *u, const weft_work *j, weft_slot *total);
#endif

/* Runs the work; total holds WEFT_SLOTS slots. */
WEFT_FN void weft_work_run(const weft_work *j, const weft_pool *pool, weft_slot *total) {
    const size_t blocks = j->n / WEFT_BLOCK + (j->n % WEFT_BLOCK != 0);
    weft_slot slot[WEFT_SLOTS];
    size_t b;
#ifdef WEFT_CUDA
    if (j->kernels->gpu) {
        weft_gpu_run(j->kernels->gpu, j, total);
        return;
    }
#endif
    for (b = 0; b < j->sums; b++) total[b].sum = 0.0;
    if (j->counts) total[b].count = 0;
    if (pool && pool->parallel_for && blocks > WEFT_PIECE_BLOCKS) {
        weft_work_parallel(j, pool, blocks, total);
        return;
    }
    for (b = 0; b < blocks; b++) {
        weft_work_block(j, b, slot);
        weft_work_add(j, total, slot);
    }
    weft_work_fence(j);
}

/* `reads` and `writes` say what becomes of the arrays, so that inputs may go without their const here. */
WEFT_FN weft_work weft_work_make(const weft_kernels *k, weft_op op, weft_dtype t, size_t n, const void *x,
                                 const void *y, unsigned reads, unsigned writes) {
    weft_work j;
    memset(&j, 0, sizeof j);
    j.kernels = k;
    j.op = op;
    j.dtype = t;
    j.n = n;
    j.array[0] = (void *)(uintptr_t)x;
    j.array[1] = (void *)(uintptr_t)y;
    j.array[2] = NULL;
    j.reads = reads;
    j.writes = writes;
    return j;
}

/* ---- the element-wise kernels over n elements of any dtype; all arrays have this dtype ---- */
WEFT_FN void weft_run_copy(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n, const void *x,
                           void *y) {
    const weft_work j = weft_work_make(k, WEFT_OP_COPY, t, n, x, y, 1, 2);
    weft_work_run(&j, pool, NULL);
}

WEFT_FN void weft_run_scale(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n, double a,
                            const void *x, void *y) {
    weft_work j = weft_work_make(k, WEFT_OP_SCALE, t, n, x, y, 1, 2);
    j.a = a;
    weft_work_run(&j, pool, NULL);
}

WEFT_FN void weft_run_axpy(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n, double a,
                           const void *x, void *y) {
    weft_work j = weft_work_make(k, WEFT_OP_AXPY, t, n, x, y, 3, 2);
    j.a = a;
    weft_work_run(&j, pool, NULL);
}

WEFT_FN void weft_run_pull(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n, double l,
                           const void *c, void *x) {
    weft_work j = weft_work_make(k, WEFT_OP_PULL, t, n, c, x, 3, 2);
    j.a = l;
    weft_work_run(&j, pool, NULL);
}

WEFT_FN void weft_run_sam_perturb(const weft_gradient_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                                  double a, const void *g, void *x, void *backup) {
    weft_work j = weft_work_make(k->core, WEFT_OP_PERTURB, t, n, g, x, 3, 6);
    j.gradient = k;
    j.array[2] = backup;
    j.a = a;
    weft_work_run(&j, pool, NULL);
}

WEFT_FN void weft_run_sam_restore(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                                  const void *backup, void *x) {
    weft_run_copy(k, pool, t, n, backup, x);
}

/* Returns how many elements of the result, as stored, are not finite. */
WEFT_FN uint64_t weft_run_weighted_sum(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                                       size_t sources, const double *w, const void *const *x, void *out) {
    weft_work j = weft_work_make(k, WEFT_OP_WEIGHTED_SUM, t, n, out, NULL, 0, 0);
    weft_slot total[WEFT_SLOTS];
    j.counts = 1;
    j.sources = sources;
    j.w = w;
    j.source = x;
    weft_work_run(&j, pool, total);
    return total[0].count;
}

/* ---- reductions over one tensor of any dtype; blocks start at its first element ---- */
WEFT_FN double weft_run_dot(const weft_gradient_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                            const void *x, const void *y) {
    weft_work j = weft_work_make(k->core, WEFT_OP_DOT, t, n, x, y, 3, 0);
    weft_slot total[WEFT_SLOTS];
    j.gradient = k;
    j.sums = 1;
    weft_work_run(&j, pool, total);
    return total[0].sum;
}

WEFT_FN double weft_run_sqnorm(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n, const void *x) {
    weft_work j = weft_work_make(k, WEFT_OP_SQNORM, t, n, x, NULL, 1, 0);
    weft_slot total[WEFT_SLOTS];
    j.sums = 1;
    weft_work_run(&j, pool, total);
    return total[0].sum;
}

WEFT_FN weft_dots weft_run_dots(const weft_gradient_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                                const void *x, const void *y) {
    weft_work j = weft_work_make(k->core, WEFT_OP_DOTS, t, n, x, y, 3, 0);
    weft_slot total[WEFT_SLOTS];
    weft_dots r;
    j.gradient = k;
    j.sums = 3;
    weft_work_run(&j, pool, total);
    r.xy = total[0].sum;
    r.xx = total[1].sum;
    r.yy = total[2].sum;
    return r;
}

/* g, v and x have the same dtype; v may be NULL without momentum. */
WEFT_FN weft_grad_stats weft_run_sgd(const weft_gradient_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                                     const weft_sgd *o, const void *g, void *v, void *x) {
    const int plain = t == WEFT_F64 ? o->momentum == 0 : (float)o->momentum == 0;
    weft_work j = weft_work_make(k->core, WEFT_OP_SGD, t, n, g, v, plain ? 5 : o->first ? 5 : 7, plain ? 4 : 6);
    weft_slot total[WEFT_SLOTS];
    weft_grad_stats r;
    j.gradient = k;
    j.array[2] = x;
    j.sums = j.counts = 1;
    j.sgd = o;
    weft_work_run(&j, pool, total);
    r.squared_norm = total[0].sum;
    r.nonfinite = total[1].count;
    return r;
}

WEFT_FN uint64_t weft_run_count_nonfinite(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n,
                                          const void *x) {
    weft_work j = weft_work_make(k, WEFT_OP_COUNT, t, n, x, NULL, 1, 0);
    weft_slot total[WEFT_SLOTS];
    j.counts = 1;
    weft_work_run(&j, pool, total);
    return total[0].count;
}

/* 16-bit elements are hashed as the f32 that they stand for. */
WEFT_FN uint64_t weft_run_hash(const weft_kernels *k, const weft_pool *pool, weft_dtype t, size_t n, uint64_t first,
                               const void *x) {
    weft_work j = weft_work_make(k, WEFT_OP_HASH, t, n, x, NULL, 1, 0);
    weft_slot total[WEFT_SLOTS];
    j.counts = 1;
    j.first = first;
    weft_work_run(&j, pool, total);
    return total[0].count;
}
