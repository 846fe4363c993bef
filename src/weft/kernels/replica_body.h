/* The kernels of a replica's phase (replica.h): x = the replica, w = the global model, a = w + carried * own = where
 * this phase began. Part of body.h. */
WEFT_KERNEL uint64_t WEFT_K(replica_launch)(size_t n, const weft_phase *o, const void *sums, const void *owns, void *ws,
                                            void *xs, void *outs, int stream) {
    const WEFT_T *sum = (const WEFT_T *)sums, *own = (const WEFT_T *)owns;
    WEFT_T *w = (WEFT_T *)ws, *x = (WEFT_T *)xs, *out = (WEFT_T *)outs;
    const WEFT_T carry = (WEFT_T)o->carry;
    const WEFT_V count = WEFT_SET((WEFT_T)o->count), beta = WEFT_SET(carry), carried = WEFT_SET((WEFT_T)o->carried);
    uint64_t bad = 0;
    size_t i;
    if (sum && !own && carry == 0) { /* as a rule */
#define WEFT_STEP(LOAD, STORE, OUT)                                                                                    \
    {                                                                                                                  \
        const WEFT_V was = LOAD(w + i), d = WEFT_SUB(LOAD(x + i), was);                                                \
        const WEFT_V now = WEFT_ADD(was, WEFT_DIV(LOAD(sum + i), count));                                              \
        STORE(w + i, now);                                                                                             \
        STORE(x + i, now);                                                                                             \
        OUT(out + i, d);                                                                                               \
        bad += WEFT_NONFINITE(d);                                                                                      \
    }
        WEFT_EACH_OUT(out)
#undef WEFT_STEP
        return bad;
    }
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        WEFT_V now = LOAD(w + i), from = now, d;                                                                       \
        if (own) from = WEFT_ADD(now, WEFT_MUL(carried, LOAD(own + i)));                                               \
        d = WEFT_SUB(LOAD(x + i), from);                                                                               \
        if (sum) {                                                                                                     \
            now = WEFT_ADD(now, WEFT_DIV(LOAD(sum + i), count));                                                       \
            STORE(w + i, now);                                                                                         \
        }                                                                                                              \
        if (carry != 0) now = WEFT_ADD(now, WEFT_MUL(beta, d));                                                        \
        STORE(x + i, now);                                                                                             \
        STORE(out + i, d);                                                                                             \
        bad += WEFT_NONFINITE(d);                                                                                      \
    }
    WEFT_EACH
#undef WEFT_STEP
    return bad;
}

WEFT_KERNEL void WEFT_K(replica_merge)(size_t n, const weft_phase *o, const void *sums, const void *owns, void *ws,
                                       void *xs) {
    const WEFT_T *sum = (const WEFT_T *)sums, *own = (const WEFT_T *)owns;
    WEFT_T *w = (WEFT_T *)ws, *x = (WEFT_T *)xs;
    const WEFT_V count = WEFT_SET((WEFT_T)o->count), carried = WEFT_SET((WEFT_T)o->carried);
    const int again = own && o->again, anchored = own && (WEFT_T)o->carried != 0;
    size_t i;
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        WEFT_V now = LOAD(w + i), d = now;                                                                             \
        if (anchored) d = WEFT_ADD(now, WEFT_MUL(carried, LOAD(own + i)));                                             \
        d = WEFT_SUB(LOAD(x + i), d);                                                                                  \
        if (again) d = WEFT_ADD(d, LOAD(own + i));                                                                     \
        if (sum) {                                                                                                     \
            now = WEFT_ADD(now, WEFT_DIV(LOAD(sum + i), count));                                                       \
            STORE(w + i, now);                                                                                         \
        }                                                                                                              \
        STORE(x + i, WEFT_ADD(now, d));                                                                                \
    }
    WEFT_EACH
#undef WEFT_STEP
}

WEFT_KERNEL void WEFT_K(replica_residual)(size_t n, const weft_phase *o, const void *ws, const void *ds, const void *qs,
                                          void *xs) {
    const WEFT_T *w = (const WEFT_T *)ws, *d = (const WEFT_T *)ds, *q = (const WEFT_T *)qs;
    WEFT_T *x = (WEFT_T *)xs;
    const WEFT_T carry = (WEFT_T)o->carry;
    const WEFT_V beta = WEFT_SET(carry);
    size_t i;
#define WEFT_STEP(LOAD, STORE)                                                                                         \
    {                                                                                                                  \
        const WEFT_V sent = LOAD(q + i);                                                                               \
        WEFT_V from = LOAD(w + i);                                                                                     \
        if (carry != 0) from = WEFT_ADD(from, WEFT_MUL(beta, sent));                                                   \
        STORE(x + i, WEFT_ADD(from, WEFT_SUB(LOAD(d + i), sent)));                                                     \
    }
    WEFT_EACH
#undef WEFT_STEP
}
