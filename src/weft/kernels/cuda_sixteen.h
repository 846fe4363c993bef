/*==== SECTION WEFT_DEVICE_SIXTEEN ====*/
/* Works of sixteen.h on device pointers, one launch each: all in f32, rounded where it is stored or travels. */
typedef struct weft_device_sixteen_job {
    weft_sixteen work;
    size_t n, packets;
    weft_device_state *state;
    weft_slot *total;
} weft_device_sixteen_job;

/* What comes of v by way of this type. */
WEFT_DEVICE float weft_device_as(weft_dtype t, float v) {
    return t == WEFT_F32 ? v : weft_device_in(t, weft_device_narrow(t, v));
}

template <unsigned E> WEFT_DEVICE unsigned weft_device_between(const weft_sixteen &w, size_t i) {
    const float a = (float)w.a, times = (float)-w.times;
    float x[E], y[E];
    unsigned bad = 0;
    weft_device_load<E>(w.x_type, w.x, i, x);
    if (w.op == WEFT_SIXTEEN_ADD || w.op == WEFT_SIXTEEN_MIX)
        weft_device_load<E>(w.y_type, w.y, i, y);
    else
        WEFT_UNROLL for (unsigned e = 0; e < E; e++) y[e] = 0;
    WEFT_UNROLL for (unsigned e = 0; e < E; e++) {
        switch (w.op) {
        case WEFT_SIXTEEN_CONVERT: y[e] = x[e]; break;
        case WEFT_SIXTEEN_COUNT: bad += weft_device_nonfinite(weft_device_as(w.y_type, x[e])); break;
        case WEFT_SIXTEEN_ADD: y[e] = weft_device_add(y[e], x[e]); break;
        case WEFT_SIXTEEN_MIX:
            x[e] = weft_device_add(x[e], weft_device_mul(times, weft_device_as(w.wire, y[e])));
            y[e] = weft_device_add(y[e], weft_device_mul(a, x[e]));
            break;
        }
    }
    if (w.op != WEFT_SIXTEEN_COUNT) weft_device_store<E>(w.y_type, w.y, i, y);
    return bad;
}

static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_sixteens(const weft_device_sixteen_job j) {
    const size_t threads = (size_t)gridDim.x * WEFT_DEVICE_THREADS;
    const size_t me = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x;
    weft_device_word bad = 0;
    for (size_t i = me; i < j.packets; i += threads) bad += weft_device_between<4>(j.work, i * 4);
    for (size_t i = j.packets * 4 + me; i < j.n; i += threads) bad += weft_device_between<1>(j.work, i);
    if (j.total) weft_device_count(j.state, j.total, bad);
}

/* Enqueues it; total[0].count: what it counts (NULL: nothing). */
WEFT_FN weft_status weft_device_sixteen(weft_device *v, const weft_sixteen *w, size_t n, weft_slot *total) {
    const size_t past = (uintptr_t)w->x % (4 * weft_dtype_bytes(w->x_type)) |
                        (w->y ? (uintptr_t)w->y % (4 * weft_dtype_bytes(w->y_type)) : 0);
    weft_device_sixteen_job j;
    if (!n && !total) return WEFT_OK;
    j.work = *w;
    j.n = n;
    j.packets = past ? 0 : n / 4;
    j.state = v->state;
    j.total = total;
    return weft_device_launch(v, weft_device_sixteens, weft_device_grid(n - j.packets * 4, j.packets), &j);
}
