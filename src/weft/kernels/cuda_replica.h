/*==== SECTION WEFT_DEVICE_REPLICA ====*/
/* The passes of replica.h on device pointers: what the serial kernels do to an element, in one launch. With bf16
 * payloads what rounding takes from the change stays in the replica, as on the CPU. */
typedef struct weft_device_replica_job {
    weft_replica pass;
    size_t n, packets;
    weft_device_state *state;
    weft_slot *total;
} weft_device_replica_job;

/* Payloads are T's own type, or bf16. */
template <unsigned E, typename T>
WEFT_DEVICE void weft_device_payload(const weft_replica &r, const void *p, size_t i, T *v) {
    if (r.payload == WEFT_BF16)
        weft_device_get<uint16_t, E>(WEFT_BF16, p, i, v);
    else
        weft_device_get<T, E>(r.dtype, p, i, v);
}

template <typename T, unsigned E> WEFT_DEVICE unsigned weft_device_phase(const weft_replica &r, size_t i) {
    const T divisor = (T)r.phase.count, beta = (T)r.phase.carry, carried = (T)r.phase.carried;
    T w[E], x[E], sum[E], own[E], out[E];
    unsigned bad = 0;
    weft_device_get<T, E>(r.dtype, r.w, i, w);
    weft_device_get<T, E>(r.dtype, r.x, i, x);
    if (r.sum) weft_device_payload<E>(r, r.sum, i, sum);
    if (r.own) weft_device_payload<E>(r, r.own, i, own);
    WEFT_UNROLL for (unsigned e = 0; e < E; e++) {
        T from = w[e], d;
        if (r.own && (r.launch || carried != 0)) from = weft_device_add(from, weft_device_mul(carried, own[e]));
        d = out[e] = weft_device_sub(x[e], from);
        if (r.own && !r.launch && r.phase.again) d = weft_device_add(d, own[e]);
        if (r.sum) w[e] = weft_device_add(w[e], weft_device_div(sum[e], divisor));
        x[e] = w[e];
        if (r.launch) {
            T sent = d;
            if (r.payload == WEFT_BF16) sent = (T)weft_device_in(WEFT_BF16, weft_device_narrow(WEFT_BF16, (float)d));
            out[e] = sent;
            bad += weft_device_nonfinite(sent);
            if (beta != 0) x[e] = weft_device_add(x[e], weft_device_mul(beta, sent));
            if (r.payload == WEFT_BF16) x[e] = weft_device_add(x[e], weft_device_sub(d, sent));
        } else
            x[e] = weft_device_add(x[e], d);
    }
    if (r.sum) weft_device_put<T, E>(r.dtype, r.w, i, w);
    weft_device_put<T, E>(r.dtype, r.x, i, x);
    if (r.launch && r.payload == WEFT_BF16)
        weft_device_put<uint16_t, E>(WEFT_BF16, r.out, i, out);
    else if (r.launch)
        weft_device_put<T, E>(r.dtype, r.out, i, out);
    return bad;
}

template <typename T>
static __global__ void __launch_bounds__(WEFT_DEVICE_THREADS) weft_device_replicas(const weft_device_replica_job j) {
    const unsigned each = 16 / sizeof(T);
    const size_t threads = (size_t)gridDim.x * WEFT_DEVICE_THREADS;
    const size_t me = (size_t)blockIdx.x * WEFT_DEVICE_THREADS + threadIdx.x;
    weft_device_word bad = 0;
    for (size_t i = me; i < j.packets; i += threads) bad += weft_device_phase<T, each>(j.pass, i * each);
    for (size_t i = j.packets * each + me; i < j.n; i += threads) bad += weft_device_phase<T, 1>(j.pass, i);
    if (j.total) weft_device_count(j.state, j.total, bad);
}

/* As weft_run_replica; total[0].count: how many changes, as they are sent, are not finite, or 0 (NULL: not wanted). */
WEFT_FN weft_status weft_device_replica(weft_device *v, const weft_replica *r, size_t n, weft_slot *total) {
    const int wide = r->dtype == WEFT_F64;
    const size_t each = wide ? 2 : 4, packet = each * weft_dtype_bytes(r->payload);
    uintptr_t own = (uintptr_t)r->w | (uintptr_t)r->x, payload = (uintptr_t)r->sum | (uintptr_t)r->own;
    weft_device_replica_job j;
    if (!n && !total) return WEFT_OK;
    if (r->launch) payload |= (uintptr_t)r->out;
    j.pass = *r;
    j.n = n;
    j.packets = own % 16 || payload % packet ? 0 : n / each;
    j.state = v->state;
    j.total = total;
    return weft_device_launch(v, wide ? weft_device_replicas<double> : weft_device_replicas<float>,
                              weft_device_grid(n - j.packets * each, j.packets), &j);
}
