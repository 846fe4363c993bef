/*==== SECTION WEFT_FAMILY ====*/
/* The kernels of a family and their tables, for every instruction set that this compiler makes. Read with WEFT_FAMILY
 * (kernels.h has the list) and WEFT_FAMILY_TABLES(set, isa, fence) defined; takes both back. */
#include "serial.h"
#ifdef WEFT_HAVE_X86
#include "sse2.h"
#include "avx2.h"
/* gcc 12's own AVX-512 intrinsics leave variables undefined on purpose, and as C++ it warns of them here */
#if !defined __clang__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include "avx512.h"
#if !defined __clang__
#pragma GCC diagnostic pop
#endif
#endif
#ifdef WEFT_HAVE_NEON
#include "neon.h"
#endif
#ifdef WEFT_HAVE_WASM
#include "wasm.h"
#endif
#undef WEFT_FAMILY_TABLES
#undef WEFT_FAMILY
