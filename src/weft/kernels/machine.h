/* Which instruction sets this compiler can make kernels for, and their intrinsics: included before the pragmas of the
 * implementation, which must not reach into the compiler's own headers. */
#if !defined WEFT_NO_SIMD && !defined WEFT_SETS_KNOWN
#define WEFT_SETS_KNOWN
#if (defined __GNUC__ || defined __clang__) && (defined __x86_64__ || (defined __i386__ && defined __SSE2_MATH__))
#include <cpuid.h>
#include <immintrin.h>
#define WEFT_HAVE_X86
#elif defined __aarch64__ && defined __ARM_NEON && !defined __ARM_BIG_ENDIAN
#include <arm_neon.h>
#define WEFT_HAVE_NEON
#elif defined __wasm_simd128__
#include <wasm_simd128.h>
#define WEFT_HAVE_WASM
#endif
#endif
