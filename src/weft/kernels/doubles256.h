/* Four doubles, or 64-bit integers, a vector: AVX2's, which AVX-512 keeps to as well, since the sixteen lanes of a sum
 * are two vectors of eight or four of four, and two leave an adder idle most of the time. */
#define WEFT_D __m256d
#define WEFT_D_LANES 4
#define WEFT_D_SET(a) _mm256_set1_pd(a)
#define WEFT_D_LOAD(p) _mm256_loadu_pd(p)
#define WEFT_D_LOAD32(p) _mm256_cvtps_pd(_mm_loadu_ps(p))
#define WEFT_D_STORE(p, v) _mm256_storeu_pd(p, v)
#define WEFT_D_STORE32(p, v) _mm_storeu_ps(p, _mm256_cvtpd_ps(v))
#define WEFT_D_STREAM(p, v) _mm256_stream_pd(p, v)
#define WEFT_D_STREAM32(p, v) _mm_stream_ps(p, _mm256_cvtpd_ps(v))
#define WEFT_D_ADD(a, b) _mm256_add_pd(a, b)
#define WEFT_D_SUB(a, b) _mm256_sub_pd(a, b)
#define WEFT_D_MUL(a, b) _mm256_mul_pd(a, b)
#define WEFT_D_DIV(a, b) _mm256_div_pd(a, b)
#define WEFT_D_MADD(sum, a, b) _mm256_fmadd_pd(a, b, sum)

#define WEFT_U __m256i
#define WEFT_U_SET(a) _mm256_set1_epi64x((int64_t)(a))
#define WEFT_U_LOAD64(p) _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define WEFT_U_LOAD32(p) _mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i *)(const void *)(p)))
#define WEFT_U_STORE64(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#define WEFT_U_ADD(a, b) _mm256_add_epi64(a, b)
#define WEFT_U_XOR(a, b) _mm256_xor_si256(a, b)
#define WEFT_U_SHR(a, n) _mm256_srli_epi64(a, n)
