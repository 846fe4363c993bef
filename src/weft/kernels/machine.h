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

/* WEFT_CUDA adds kernels for the host's GPU. Tests name a runtime of their own. */
#if defined WEFT_CUDA && !defined WEFT_CUDA_KNOWN
#define WEFT_CUDA_KNOWN
#ifndef WEFT_CUDA_RUNTIME
#ifndef __CUDACC__
#error "WEFT_CUDA: the implementation must be in a .cu file, for nvcc"
#endif
#define WEFT_CUDA_RUNTIME <cuda_runtime.h>
#endif
#include WEFT_CUDA_RUNTIME
#endif
