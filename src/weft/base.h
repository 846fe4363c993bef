/* SPDX-License-Identifier: MIT
 * base.h: status codes, versions, the detail of an error, memory layout, and size arithmetic that cannot overflow. */
/*==== API ====*/
#include <stddef.h>
#include <stdint.h>

/* 10,000 x major + 100 x minor + patch. All five headers of one release carry the same number. */
#define WEFT_VERSION 100

/* What X_init compares with the unit that implements it: the version, and what the two compilers must agree on. */
#ifdef WEFT_CUDA /* descriptors have one field more */
#define WEFT_ABI ((uint32_t)WEFT_VERSION * 16u + (uint32_t)sizeof(size_t) + 1u)
#else
#define WEFT_ABI ((uint32_t)WEFT_VERSION * 16u + (uint32_t)sizeof(size_t))
#endif

#if defined __GNUC__ || defined __clang__
#define WEFT_UNUSED __attribute__((unused))
#define WEFT_RESTRICT __restrict
#elif defined _MSC_VER
#define WEFT_UNUSED
#define WEFT_RESTRICT __restrict
#else
#define WEFT_UNUSED
#define WEFT_RESTRICT
#endif
/* Foundation functions have internal linkage, so that any number of headers and versions can live in one program. */
#define WEFT_INLINE static inline WEFT_UNUSED
#define WEFT_FN static WEFT_UNUSED

/* Descriptor fields where zero means "the default" but is also a legal setting: WEFT_ZERO asks for zero itself.
 * Other negative values of such a field are errors. */
#define WEFT_ZERO (-1)

/* A worker that is nobody: where a rank is expected and none applies. */
#define WEFT_NO_RANK UINT32_MAX

/* In what follows X_ stands for the prefix of the algorithm: X_memory is grawa_memory, and so on.
 *
 * What every verb returns. Zero: done. Positive: a wish. Negative: an error; X_detail names who, where, and both
 * values. The numbers are stable across versions. */
typedef enum weft_status {
    WEFT_OK = 0,
    WEFT_AGAIN = 1,         /* in progress: call X_poll later; the tensors stay lent to the library until WEFT_OK */
    WEFT_STALL = 2,         /* the library cannot take another step yet (HPSGD: h_max reached) */
    WEFT_WANT_GRADIENT = 3, /* the library wants a gradient before it goes on */

    WEFT_ERR_ARGUMENT = -1,     /* an argument or a field of a descriptor is not legal; detail.field names it */
    WEFT_ERR_ABI = -2,          /* struct size or header version of the caller differ from the implementation's */
    WEFT_ERR_MEMORY = -3,       /* the memory given is smaller than X_memory asked for */
    WEFT_ERR_OVERFLOW = -4,     /* a size does not fit size_t on this machine */
    WEFT_ERR_ORDER = -5,        /* this verb is not legal now; X_state tells which are */
    WEFT_ERR_REENTRY = -6,      /* a callback called back into the object that called it */
    WEFT_ERR_FLOAT_ENV = -7,    /* flush-to-zero, contraction or a rounding mode other than nearest is in force */
    WEFT_ERR_TRANSPORT = -8,    /* a transport callback failed for a reason of its own */
    WEFT_ERR_PEER_LOST = -9,    /* a worker of the view is gone; X_regroup is the way on */
    WEFT_ERR_TIMEOUT = -10,     /* no progress for timeout_ns; nothing is lost, polling may go on */
    WEFT_ERR_TRUNCATED = -11,   /* a message is longer than the receive posted for it */
    WEFT_ERR_PROTOCOL = -12,    /* a peer's message is malformed, or impossible at this point */
    WEFT_ERR_MISMATCH = -13,    /* a peer runs with other settings; detail.field, expected (here), got (there) */
    WEFT_ERR_CHECKSUM = -14,    /* a checksum does not fit the bytes */
    WEFT_ERR_VERSION = -15,     /* a message or blob of a version that this code does not read */
    WEFT_ERR_NONFINITE = -16,   /* NaN or infinity where the descriptor says that this rejects the round */
    WEFT_ERR_UNSUPPORTED = -17, /* legal, but not available in this configuration */
    WEFT_ERR_CAPACITY = -18     /* the buffer given is too small; detail.expected bytes are needed */
#ifdef WEFT_CUDA
    ,
    WEFT_ERR_DEVICE = -19 /* the CUDA runtime gave an error: detail.got; the object's data may be wrong from now on */
#endif
} weft_status;

/* The last error (or wish) of an object, as data. Ranks are WEFT_NO_RANK, strings NULL, where they do not apply. */
typedef struct weft_detail {
    weft_status status;
    uint32_t peer;     /* rank of the other worker */
    uint64_t round;    /* communication round */
    const char *phase; /* what was being done: static text */
    const char *field; /* the argument, descriptor field or message field at fault: static text */
    uint64_t expected; /* here (floats: their bits, widened to double) */
    uint64_t got;      /* there */
} weft_detail;

/* One named buffer of an object. */
typedef struct weft_memory_entry {
    const char *name; /* static text */
    size_t offset;    /* from the aligned start of the object's memory, or of its device memory */
    size_t bytes;
    int on_device; /* 1: of its device memory (WEFT_CUDA) */
} weft_memory_entry;

#define WEFT_MEMORY_ENTRIES 32

/* What X_memory reports besides the total: every buffer by name, and why a descriptor was refused. */
typedef struct weft_memory_report {
    size_t total_bytes; /* what X_init needs, alignment slack included; 0 if the descriptor is refused */
    size_t count;       /* entries used */
    weft_memory_entry entry[WEFT_MEMORY_ENTRIES];
    uint32_t requests_per_peer; /* most transport requests outstanding towards one peer at a time */
    weft_detail detail;         /* detail.status is WEFT_OK, or why there is no size */
    size_t device_bytes;        /* with a descriptor's `cuda` (WEFT_CUDA): device memory beside it */
} weft_memory_report;

/* English for a status; never NULL. With WEFT_NO_STRINGS: the empty string. */
WEFT_INLINE const char *weft_strerror(weft_status status) {
#ifdef WEFT_NO_STRINGS
    (void)status;
    return "";
#else
    switch (status) {
    case WEFT_OK: return "ok";
    case WEFT_AGAIN: return "in progress, poll again";
    case WEFT_STALL: return "stalled, the network is behind";
    case WEFT_WANT_GRADIENT: return "a gradient is wanted";
    case WEFT_ERR_ARGUMENT: return "illegal argument or descriptor field";
    case WEFT_ERR_ABI: return "header and implementation differ in version or layout";
    case WEFT_ERR_MEMORY: return "the memory given is too small";
    case WEFT_ERR_OVERFLOW: return "a size does not fit this machine";
    case WEFT_ERR_ORDER: return "this call is not legal now";
    case WEFT_ERR_REENTRY: return "called from inside its own callback";
    case WEFT_ERR_FLOAT_ENV: return "the floating-point environment breaks the arithmetic contract";
    case WEFT_ERR_TRANSPORT: return "the transport failed";
    case WEFT_ERR_PEER_LOST: return "a worker of the view is lost";
    case WEFT_ERR_TIMEOUT: return "no progress within the time-out";
    case WEFT_ERR_TRUNCATED: return "a message is longer than its receive";
    case WEFT_ERR_PROTOCOL: return "a message is malformed or out of place";
    case WEFT_ERR_MISMATCH: return "workers run with different settings";
    case WEFT_ERR_CHECKSUM: return "checksum mismatch";
    case WEFT_ERR_VERSION: return "unknown version";
    case WEFT_ERR_NONFINITE: return "a value is not finite";
    case WEFT_ERR_UNSUPPORTED: return "not available in this configuration";
    case WEFT_ERR_CAPACITY: return "the buffer given is too small";
#ifdef WEFT_CUDA
    case WEFT_ERR_DEVICE: return "the GPU or its runtime failed";
#endif
    }
    return "unknown status";
#endif
}
/*==== IMPLEMENTATION ====*/
#include <math.h>
#include <string.h>

/* The arithmetic contract (kernels.h) does not survive these; a silent difference between workers would be worse
 * than a build that stops. */
#if defined __FAST_MATH__ || defined __ASSOCIATIVE_MATH__
#error "weft: -ffast-math breaks the arithmetic contract; compile the implementation without it"
#endif
#if defined __FLT_EVAL_METHOD__
#if __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "weft: float is evaluated in a wider type here (x87?); on 32-bit x86 use -msse2 -mfpmath=sse"
#endif
#endif

/* Builds whose strings must go still need the pointers. */
#ifdef WEFT_NO_STRINGS
#define WEFT_TEXT(s) ""
#else
#define WEFT_TEXT(s) (s)
#endif

/* For what stands in many places and never in a hot one: inlined, it would be a tenth of the code. */
#if defined __GNUC__ || defined __clang__
#define WEFT_NOINLINE __attribute__((noinline))
#else
#define WEFT_NOINLINE
#endif

WEFT_FN weft_detail weft_detail_none(void) {
    weft_detail d;
    memset(&d, 0, sizeof d);
    d.peer = WEFT_NO_RANK;
    return d;
}

/* Fills `d` and hands the status through, so that a refusal is one line where it is found. */
WEFT_FN WEFT_NOINLINE weft_status weft_refuse(weft_detail *d, weft_status status, const char *field, uint64_t expected,
                                              uint64_t got) {
    d->status = status;
    d->field = field;
    d->expected = expected;
    d->got = got;
    return status;
}

WEFT_FN uint64_t weft_double_bits(double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

/* A status as a value of a detail: errors as they read in two's complement. */
WEFT_FN uint64_t weft_status_value(weft_status s) {
    return (uint64_t)(int64_t)s;
}

WEFT_FN int weft_is_finite(double v) {
    return (weft_double_bits(v) >> 52 & 0x7FFu) != 0x7FFu;
}

/* out = a + b and out = a * b; 0 where the result does not fit. */
WEFT_FN int weft_add_size(size_t a, size_t b, size_t *out) {
    if (b > SIZE_MAX - a) return 0;
    *out = a + b;
    return 1;
}

WEFT_FN int weft_mul_size(size_t a, size_t b, size_t *out) {
    if (a != 0 && b > SIZE_MAX / a) return 0;
    *out = a * b;
    return 1;
}

/* Carving an object out of the caller's memory. The same code runs twice: with base == NULL it only adds up (X_memory),
 * with the caller's memory it hands out pointers (X_init), so that the two cannot disagree. */
#define WEFT_ALIGNMENT ((size_t)64)

typedef struct weft_layout {
    unsigned char *base; /* aligned; NULL while measuring */
    size_t offset;
    int overflow;
    weft_memory_report *report; /* may be NULL */
#ifdef WEFT_CUDA
    int apart; /* data has memory of its own, on a GPU */
    unsigned char *device_base;
    size_t device_offset;
#endif
} weft_layout;

WEFT_FN void *weft_layout_take(weft_layout *l, const char *name, size_t count, size_t each) {
    size_t bytes = 0, end = 0, start = l->offset;
    if (!weft_mul_size(count, each, &bytes) || !weft_add_size(bytes, WEFT_ALIGNMENT - 1, &end) ||
        !weft_add_size(start, end / WEFT_ALIGNMENT * WEFT_ALIGNMENT, &end)) {
        l->overflow = 1;
        return NULL;
    }
    l->offset = end;
    if (l->report && l->report->count < WEFT_MEMORY_ENTRIES) {
        weft_memory_entry *e = &l->report->entry[l->report->count++];
        e->name = name;
        e->offset = start;
        e->bytes = bytes;
    }
    return l->base ? (void *)(l->base + start) : NULL;
}

/* The caller's memory may start anywhere; the slack for this is part of every size. */
WEFT_FN unsigned char *weft_align_memory(void *memory) {
    unsigned char *p = (unsigned char *)memory;
    size_t past = (size_t)((uintptr_t)p % WEFT_ALIGNMENT);
    return past ? p + (WEFT_ALIGNMENT - past) : p;
}

/* Total with slack, or 0 on overflow. */
WEFT_FN size_t weft_layout_total(const weft_layout *l) {
    size_t total = 0;
    if (l->overflow || !weft_add_size(l->offset, WEFT_ALIGNMENT - 1, &total)) return 0;
    return total;
}
