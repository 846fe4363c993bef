/* SPDX-License-Identifier: MIT
 * check.h: what the tests use of Check, for machines that Check is not installed for. Each test runs in a process of
 * its own under a time limit, as with Check; where there is no fork (WebAssembly, Windows) all run in one, and the
 * first failure ends the program. CK_RUN_SUITE chooses a suite, CK_TIMEOUT_MULTIPLIER stretches the limits;
 * CROSS_EVERY=n (not Check's) runs each n-th of the tests of a loop. */
#ifndef CROSS_CHECK_H
#define CROSS_CHECK_H

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined __wasm__ || defined _WIN32
#define CROSS_ONE_PROCESS
#else
#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

typedef struct TCase {
    const char *name;
    struct {
        const char *name;
        void (*run)(int i);
        int from, to, loop;
    } test[256];
    int tests;
    unsigned seconds;
} TCase;

typedef struct Suite {
    const char *name;
    TCase *tcase[64];
    int tcases;
} Suite;

typedef struct SRunner {
    Suite *suite[64];
    int suites, checks, failures, errors;
} SRunner;

enum print_output { CK_SILENT, CK_MINIMAL, CK_NORMAL, CK_VERBOSE, CK_ENV };

#define START_TEST(name) static void name(int _i __attribute__((unused)))
#define END_TEST

static inline void *cross_new(size_t bytes) {
    void *p = calloc(1, bytes);
    if (!p) abort();
    return p;
}

static inline TCase *tcase_create(const char *name) {
    TCase *c = (TCase *)cross_new(sizeof *c);
    c->name = name;
    c->seconds = 4;
    return c;
}

static inline void tcase_set_timeout(TCase *c, double seconds) { c->seconds = (unsigned)ceil(seconds); }

static inline void cross_add(TCase *c, const char *name, void (*run)(int), int from, int to, int loop) {
    if (c->tests == (int)(sizeof c->test / sizeof c->test[0])) abort();
    c->test[c->tests].name = name;
    c->test[c->tests].run = run;
    c->test[c->tests].from = from;
    c->test[c->tests].to = to;
    c->test[c->tests++].loop = loop;
}
#define tcase_add_test(c, f) cross_add(c, #f, f, 0, 1, 0)
#define tcase_add_loop_test(c, f, from, to) cross_add(c, #f, f, from, to, 1)

static inline Suite *suite_create(const char *name) {
    Suite *s = (Suite *)cross_new(sizeof *s);
    s->name = name;
    return s;
}

static inline void suite_add_tcase(Suite *s, TCase *c) {
    if (s->tcases == (int)(sizeof s->tcase / sizeof s->tcase[0])) abort();
    s->tcase[s->tcases++] = c;
}

static inline void srunner_add_suite(SRunner *r, Suite *s) {
    if (r->suites == (int)(sizeof r->suite / sizeof r->suite[0])) abort();
    r->suite[r->suites++] = s;
}

static inline SRunner *srunner_create(Suite *s) {
    SRunner *r = (SRunner *)cross_new(sizeof *r);
    if (s) srunner_add_suite(r, s);
    return r;
}

static inline int srunner_ntests_failed(const SRunner *r) { return r->failures + r->errors; }

static inline void srunner_free(SRunner *r) {
    int i, j;
    for (i = 0; i < r->suites; i++) {
        for (j = 0; j < r->suite[i]->tcases; j++) free(r->suite[i]->tcase[j]);
        free(r->suite[i]);
    }
    free(r);
}

/* "100%: Checks: 7, Failures: 0, Errors: 0" */
static inline void cross_summary(const SRunner *r) {
    const int good = r->checks - srunner_ntests_failed(r);
    printf("%d%%: Checks: %d, Failures: %d, Errors: %d\n", r->checks ? good * 100 / r->checks : 100, r->checks,
           r->failures, r->errors);
    fflush(stdout);
}

#ifdef CROSS_ONE_PROCESS
static SRunner *cross_running;
static char cross_name[200];
#endif

/* Says what is wrong and ends the test. */
static inline void cross_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));
static inline void cross_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    printf("%s:%d: ", file, line);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
#ifdef CROSS_ONE_PROCESS
    printf("    in %s\n", cross_name);
    cross_running->failures++;
    cross_summary(cross_running);
    exit(1);
#else
    fflush(stdout);
    _exit(1);
#endif
}

static inline void cross_run(SRunner *r, const TCase *c, int test, int i) {
    char name[200];
    snprintf(name, sizeof name, c->test[test].loop ? "%s:%s:%d" : "%s:%s", c->name, c->test[test].name, i);
    r->checks++;
#ifdef CROSS_ONE_PROCESS
    cross_running = r;
    memcpy(cross_name, name, sizeof name);
    c->test[test].run(i);
#else
    {
        int status = 0;
        pid_t child;
        fflush(stdout);
        child = fork();
        if (child < 0) abort();
        if (child == 0) {
            const char *factor = getenv("CK_TIMEOUT_MULTIPLIER");
            alarm(c->seconds * (unsigned)(factor ? atoi(factor) : 1));
            c->test[test].run(i);
            fflush(stdout);
            _exit(0);
        }
        if (waitpid(child, &status, 0) != child) abort();
        if (status == 0) return;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 1) {
            r->failures++;
        } else {
            r->errors++;
            if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) printf("too slow\n");
            else printf("ended with wait status 0x%x\n", (unsigned)status);
        }
        printf("    in %s\n", name);
    }
#endif
}

static inline void srunner_run_all(SRunner *r, enum print_output how) {
    const char *only = getenv("CK_RUN_SUITE"), *every = getenv("CROSS_EVERY");
    const int stride = every && atoi(every) > 0 ? atoi(every) : 1;
    int s, c, t, i;
    (void)how;
    for (s = 0; s < r->suites; s++) {
        const Suite *suite = r->suite[s];
        if (only && strcmp(only, suite->name) != 0) continue;
        for (c = 0; c < suite->tcases; c++)
            for (t = 0; t < suite->tcase[c]->tests; t++)
                for (i = suite->tcase[c]->test[t].from; i < suite->tcase[c]->test[t].to; i += stride)
                    cross_run(r, suite->tcase[c], t, i);
    }
    cross_summary(r);
}

#define ck_abort_msg(...) cross_fail(__FILE__, __LINE__, __VA_ARGS__)
#define ck_assert_msg(e, ...) ((e) ? (void)0 : cross_fail(__FILE__, __LINE__, __VA_ARGS__))
#define ck_assert(e) ck_assert_msg(e, "%s", "not so: " #e)

/* The condition is on cross_a and cross_b, which are a and b as `type`; `print` and `format`: how they are shown. */
#define CROSS_TRUE(condition, type, print, format, a, b, text)                                                         \
    do {                                                                                                               \
        type cross_a = (type)(a);                                                                                      \
        type cross_b = (type)(b);                                                                                      \
        if (!(condition))                                                                                              \
            cross_fail(__FILE__, __LINE__, "not so: %s: " format ", " format, text, (print)cross_a, (print)cross_b);   \
    } while (0)
#define CROSS_OP(a, op, b, type, print, format, text)                                                                  \
    CROSS_TRUE(cross_a op cross_b, type, print, format, a, b, text)
#define CROSS_INT(a, op, b) CROSS_OP(a, op, b, intmax_t, long long, "%lld", #a " " #op " " #b)
#define CROSS_UINT(a, op, b) CROSS_OP(a, op, b, uintmax_t, unsigned long long, "%llu", #a " " #op " " #b)
#define CROSS_DOUBLE(a, op, b) CROSS_OP(a, op, b, double, double, "%.17g", #a " " #op " " #b)
#define CROSS_PTR(a, op, b) CROSS_OP(a, op, b, const void *, const void *, "%p", #a " " #op " " #b)
#define CROSS_STR(a, op, b)                                                                                            \
    CROSS_TRUE(cross_a && cross_b && strcmp(cross_a, cross_b) op 0, const char *, const char *, "%s", a, b,            \
               #a " " #op " " #b)
#define ck_assert_int_eq(a, b) CROSS_INT(a, ==, b)
#define ck_assert_int_ne(a, b) CROSS_INT(a, !=, b)
#define ck_assert_int_lt(a, b) CROSS_INT(a, <, b)
#define ck_assert_int_le(a, b) CROSS_INT(a, <=, b)
#define ck_assert_int_gt(a, b) CROSS_INT(a, >, b)
#define ck_assert_int_ge(a, b) CROSS_INT(a, >=, b)
#define ck_assert_uint_eq(a, b) CROSS_UINT(a, ==, b)
#define ck_assert_uint_ne(a, b) CROSS_UINT(a, !=, b)
#define ck_assert_uint_lt(a, b) CROSS_UINT(a, <, b)
#define ck_assert_uint_le(a, b) CROSS_UINT(a, <=, b)
#define ck_assert_uint_gt(a, b) CROSS_UINT(a, >, b)
#define ck_assert_uint_ge(a, b) CROSS_UINT(a, >=, b)
#define ck_assert_double_eq(a, b) CROSS_DOUBLE(a, ==, b)
#define ck_assert_double_ne(a, b) CROSS_DOUBLE(a, !=, b)
#define ck_assert_double_lt(a, b) CROSS_DOUBLE(a, <, b)
#define ck_assert_double_le(a, b) CROSS_DOUBLE(a, <=, b)
#define ck_assert_double_gt(a, b) CROSS_DOUBLE(a, >, b)
#define ck_assert_double_ge(a, b) CROSS_DOUBLE(a, >=, b)
#define ck_assert_double_eq_tol(a, b, t)                                                                               \
    CROSS_TRUE(fabs(cross_a - cross_b) < (t), double, double, "%.17g", a, b, #a " is near " #b)
#define ck_assert_ldouble_le_tol(a, b, t)                                                                              \
    CROSS_TRUE(cross_a - cross_b <= (t), long double, double, "%.17g", a, b, #a " is hardly above " #b)
#define ck_assert_ldouble_ge_tol(a, b, t)                                                                              \
    CROSS_TRUE(cross_b - cross_a <= (t), long double, double, "%.17g", a, b, #a " is hardly below " #b)
#define ck_assert_ptr_eq(a, b) CROSS_PTR(a, ==, b)
#define ck_assert_ptr_ne(a, b) CROSS_PTR(a, !=, b)
#define ck_assert_ptr_null(a) CROSS_PTR(a, ==, NULL)
#define ck_assert_ptr_nonnull(a) CROSS_PTR(a, !=, NULL)
#define ck_assert_str_eq(a, b) CROSS_STR(a, ==, b)
#define ck_assert_str_ne(a, b) CROSS_STR(a, !=, b)
#define ck_assert_mem_eq(a, b, n) ck_assert_msg(memcmp(a, b, n) == 0, "%s", "not the same bytes: " #a ", " #b)

#endif
