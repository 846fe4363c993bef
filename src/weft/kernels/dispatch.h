/* Run-time dispatch: which sets there are, and which of them this machine can run. */

#ifdef WEFT_HAVE_X86
/* What processor and operating system (which must save the wide registers) have. cpuid is asked here and not by
 * __builtin_cpu_supports, which needs a symbol of the compiler's run-time library. */
WEFT_FN int weft_x86_has(weft_isa isa) {
    unsigned a, b, c, d, saved, saved_high;
    if (isa == WEFT_ISA_SSE2) return 1;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if ((c & 0x08801000u) != 0x08801000u) return 0; /* OSXSAVE, POPCNT, FMA */
    __asm__ __volatile__(".byte 0x0f, 0x01, 0xd0" : "=a"(saved), "=d"(saved_high) : "c"(0)); /* xgetbv */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (isa == WEFT_ISA_AVX2) return (saved & 0x06u) == 0x06u && (b & 0x20u) != 0;
    return (saved & 0xE6u) == 0xE6u && (b & 0x80030020u) == 0x80030020u; /* AVX2, AVX-512 F, DQ, VL */
}

/* Bytes of the largest cache, by the leaf that Intel has or the one that AMD has; 0 if neither tells. */
WEFT_FN size_t weft_x86_cache(void) {
    static const unsigned leaf[2] = {4u, 0x8000001Du};
    size_t most = 0;
    unsigned a, b, c, d, i, n;
    for (i = 0; i < 2; i++) {
        for (n = 0; n < 16; n++) { /* one cache each, until one has type 0; type 2 holds instructions */
            uint64_t bytes;
            if (!__get_cpuid_count(leaf[i], n, &a, &b, &c, &d) || (a & 31u) == 0) break;
            if ((a & 31u) == 2) continue;
            bytes = (uint64_t)((b >> 22) + 1) * ((b >> 12 & 0x3FFu) + 1) * ((b & 0xFFFu) + 1) * ((uint64_t)c + 1);
            if (bytes > most && bytes <= SIZE_MAX / 2) most = (size_t)bytes;
        }
    }
    return most;
}
#endif

/* The last-level cache is taken to be this large where the machine does not say. */
#define WEFT_CACHE_BYTES ((size_t)32 << 20)

WEFT_FN size_t weft_cache_bytes(void) {
#ifdef WEFT_HAVE_X86
    const size_t bytes = weft_x86_cache();
    if (bytes) return bytes;
#endif
    return WEFT_CACHE_BYTES;
}

/* Can this object's unit and this machine run `isa`? */
WEFT_FN int weft_isa_available(weft_isa isa) {
    switch (isa) {
    case WEFT_ISA_AUTO:
    case WEFT_ISA_SERIAL: return 1;
#ifdef WEFT_HAVE_X86
    case WEFT_ISA_SSE2:
    case WEFT_ISA_AVX2:
    case WEFT_ISA_AVX512: return weft_x86_has(isa);
#endif
#ifdef WEFT_HAVE_NEON
    case WEFT_ISA_NEON: return 1;
#endif
#ifdef WEFT_HAVE_WASM
    case WEFT_ISA_WASM: return 1;
#endif
    default: return 0;
    }
}

/* What WEFT_ISA_AUTO stands for here. The enumeration goes from slow to fast on every machine. */
WEFT_FN weft_isa weft_isa_resolve(weft_isa isa) {
    int i;
    if (isa != WEFT_ISA_AUTO) return isa;
    for (i = WEFT_ISA_COUNT - 1; i > WEFT_ISA_SERIAL; i--)
        if (weft_isa_available((weft_isa)i)) return (weft_isa)i;
    return WEFT_ISA_SERIAL;
}

/* The rest of a function: returns an entry of a family's tables, weft_X_kernels_SET[stream], of a set that is here. */
#ifdef WEFT_HAVE_X86
#define WEFT_SELECT_X86(tables, stream)                                                                                \
    case WEFT_ISA_SSE2: return &tables##_sse2[stream];                                                                 \
    case WEFT_ISA_AVX2: return &tables##_avx2[stream];                                                                 \
    case WEFT_ISA_AVX512: return &tables##_avx512[stream];
#else
#define WEFT_SELECT_X86(tables, stream)
#endif
#ifdef WEFT_HAVE_NEON
#define WEFT_SELECT_NEON(tables, stream)                                                                               \
    case WEFT_ISA_NEON: return &tables##_neon[stream];
#else
#define WEFT_SELECT_NEON(tables, stream)
#endif
#ifdef WEFT_HAVE_WASM
#define WEFT_SELECT_WASM(tables, stream)                                                                               \
    case WEFT_ISA_WASM: return &tables##_wasm[stream];
#else
#define WEFT_SELECT_WASM(tables, stream)
#endif
#define WEFT_SELECT(tables, isa, stream)                                                                               \
    switch (isa) {                                                                                                     \
        WEFT_SELECT_X86(tables, stream)                                                                                \
        WEFT_SELECT_NEON(tables, stream)                                                                               \
        WEFT_SELECT_WASM(tables, stream)                                                                               \
    default: return &tables##_serial[stream];                                                                          \
    }

/* The table for an object whose passes write `bytes` (0: few): what exceeds the last-level cache bypasses it. NULL if
 * `isa` names a set that this unit or machine does not have. */
WEFT_FN const weft_kernels *weft_kernels_select(weft_isa isa, size_t bytes) {
    const int stream = bytes > weft_cache_bytes();
    isa = weft_isa_resolve(isa);
    if (!weft_isa_available(isa)) return NULL;
    WEFT_SELECT(weft_kernels, isa, stream)
}

WEFT_FN const weft_gradient_kernels *weft_gradient_kernels_select(weft_isa isa, size_t bytes) {
    const weft_kernels *core = weft_kernels_select(isa, bytes);
    if (!core) return NULL;
    WEFT_SELECT(weft_gradient_kernels, core->isa, core->stream)
}
