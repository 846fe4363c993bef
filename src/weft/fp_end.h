#if defined __clang__
#pragma STDC FP_CONTRACT DEFAULT
#elif defined __GNUC__
#pragma GCC pop_options
#ifdef __NVCC__
#pragma nv_diag_default 1675, 550
#endif
#elif defined _MSC_VER
#pragma fp_contract(on)
#pragma float_control(pop)
#endif
