/*==== SECTION WEFT_DEVICE_WIDE ====*/
/* What subspace.h needs of gradients x[0] .. x[count - 1] with factors f, on device pointers: <x_i, s> and <x_i, x_i>,
 * s = the sum of f_j x_j in f64. Formed as on the CPU: four participants or fewer by way of their products with each
 * other, block by block; more by way of s. One launch for each participant, which reads all of them. */

#define WEFT_DEVICE_COLUMNS ((size_t)1024) /* a block, as subspace.h has them */

/* One lane's sums: of four or fewer, participant `mine` with each; else x * s, x * x. */
template <typename T>
WEFT_DEVICE void weft_device_numbers_lane(const weft_device_job &j, size_t at, size_t n, unsigned lane, double *sum) {
    for (size_t row = lane; row < n; row += WEFT_LANES_OF_A_BLOCK) {
        double s = 0.0;
        T x, y;
        weft_device_load<1>(j.dtype, j.array[0], at + row, &x);
        if (j.few) {
            WEFT_UNROLL for (unsigned q = 0; q < 4; q++) if (q < j.sources) {
                weft_device_load<1>(j.dtype, j.source[q].x, at + row, &y);
                sum[q] = weft_device_madd(sum[q], x, y);
            }
            continue;
        }
        for (size_t q = 0; q < j.sources; q++) {
            const weft_device_source from = j.tabled ? j.own.table[q] : j.source[q];
            double v;
            weft_device_load<1>(j.dtype, from.x, at + row, &y);
            v = weft_device_mul(from.w, (double)y);
            s = q ? weft_device_add(s, v) : v;
        }
        sum[0] = weft_device_add(sum[0], weft_device_mul((double)x, s));
        sum[1] = weft_device_madd(sum[1], x, x);
    }
}

template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_numbers_of(const weft_device_job j) {
    const unsigned lane = threadIdx.x % WEFT_LANES_OF_A_BLOCK, mine = threadIdx.x / WEFT_LANES_OF_A_BLOCK;
    const size_t pieces = (j.blocks - 1) / WEFT_DEVICE_PIECE + 1;
    const weft_device_word epoch = ((const volatile weft_device_state *)j.own.state)->epoch;
    for (;;) {
        const size_t piece = weft_device_take(j.own.state), b = piece * WEFT_DEVICE_PIECE + mine;
        const size_t at = b * WEFT_DEVICE_COLUMNS, left = at < j.n ? j.n - at : 0;
        double sum[4] = {0.0, 0.0, 0.0, 0.0}, own = 0.0;
        if (piece >= pieces) break;
        if (left)
            weft_device_numbers_lane<T>(j, at, left < WEFT_DEVICE_COLUMNS ? left : WEFT_DEVICE_COLUMNS, lane, sum);
        WEFT_UNROLL for (unsigned k = 0; k < 4; k++) sum[k] = weft_device_tree(sum[k]);
        if (j.few) {
            double dot = 0.0;
            WEFT_UNROLL for (unsigned q = 0; q < 4; q++) if (q < j.sources) {
                dot = weft_device_add(dot, weft_device_mul(j.source[q].w, sum[q]));
                if (q == j.first) own = sum[q];
            }
            sum[0] = dot;
            sum[1] = own;
        }
        if (lane == 0 && b < j.blocks) {
            j.own.slot[b] = sum[0];
            j.own.slot[j.own.blocks + b] = sum[1];
        }
        __syncthreads();
        if (threadIdx.x < 32) weft_device_add_up(j, pieces, piece, epoch);
    }
    weft_device_taken(j.own.state);
}

/* Adds the numbers of n elements of one tensor to those in `total` (device or pinned memory; WEFT_SLOTS slots for each
 * participant, zero before the first tensor): [0] <x_i, s>, [1] <x_i, x_i>. Who has factor 0 is not looked at. */
WEFT_FN weft_status weft_device_numbers(weft_device *v, weft_dtype t, size_t n, size_t count, const double *factor,
                                        const void *const *x, weft_slot *total) {
    weft_work w = weft_work_make(NULL, WEFT_OP_DOTS, t, n, NULL, NULL, 0, 0);
    weft_device_job d;
    size_t i, past = 0;
    int alike = 1;
    weft_status s;
    if (!total) return WEFT_ERR_ARGUMENT;
    if (!n) return WEFT_OK;
    w.w = factor;
    w.source = x;
    w.sources = count;
    memset(&d, 0, sizeof d);
    d.dtype = t;
    d.n = n;
    d.sums = 2;
    d.own = *v;
    d.blocks = (n - 1) / WEFT_DEVICE_COLUMNS + 1;
    if (d.blocks > v->blocks) return WEFT_ERR_CAPACITY;
    d.wide = d.go_on = 1;
    d.few = count <= 4;
    s = weft_device_gather(v, &w, &d, 1, &past, &alike);
    for (i = 0; s == WEFT_OK && i < count; i++) {
        if (factor[i] == 0.0) continue;
        d.array[0] = (void *)(uintptr_t)x[i];
        d.total = total + i * WEFT_SLOTS;
        s = weft_device_launch(v, t == WEFT_F64 ? weft_device_numbers_of<double> : weft_device_numbers_of<float>,
                               (d.blocks - 1) / WEFT_DEVICE_PIECE + 1, &d);
        d.first++; /* of those that are looked at */
    }
    return s;
}

/* As subspace.h mixes gradients: w and the sum in f64, the result rounded once; a source of weight 0 is not read. */
WEFT_FN weft_status weft_device_sum_wide(weft_device *v, weft_dtype t, size_t n, size_t sources, const double *w,
                                         const void *const *x, void *out, weft_slot *total) {
    weft_work j = weft_work_make(NULL, WEFT_OP_WEIGHTED_SUM, t, n, out, NULL, 0, 0);
    j.counts = 1;
    j.sources = sources;
    j.w = w;
    j.source = x;
    j.a = 1.0; /* says so */
    return weft_device_run(v, &j, total);
}
