/* SPDX-License-Identifier: MIT
 * What command lines are made of: drawn compute times (their moments, that a draw is a pure function), graphs and
 * codecs by name, and what is refused. */
#define DSGD_AAU_IMPLEMENTATION
#include "dsgd_aau.h"
#include "saddle.h"

#include "weft_codec_name.h"
#include "weft_pace.h"
#include "weft_topology.h"

#include <check.h>

/* Over many steps of a few workers. */
static void moments(const weft_pace *p, double *mean, double *least, double *most) {
    double sum = 0.0;
    uint32_t w;
    uint64_t s;
    *least = 1e300;
    *most = 0.0;
    for (w = 0; w < 10; w++)
        for (s = 0; s < 20000; s++) {
            const double t = weft_pace_draw(p, 7, w, s);
            sum += t;
            if (t < *least) *least = t;
            if (t > *most) *most = t;
        }
    *mean = sum / 200000.0;
}

START_TEST(the_mean_is_the_mean) {
    static const char *const text[6] = {
        "0.5", "constant:0.5", "uniform:0.5:0.2", "exponential:0.5", "lognormal:0.5:0.5", "pareto:0.5:3"};
    /* standard errors of 200,000 draws: at most 0.5 x 1 / sqrt(200,000) = 0.0011 */
    weft_pace p = weft_pace_default();
    double mean, least, most;
    ck_assert_int_eq(weft_pace_parse(&p, text[_i]), 1);
    moments(&p, &mean, &least, &most);
    ck_assert_double_eq_tol(mean, 0.5, 0.005);
    if (_i < 2) ck_assert(least == 0.5 && most == 0.5);
    if (_i == 2) ck_assert(least >= 0.4 && least < 0.401 && most <= 0.6 && most > 0.599);
    if (_i == 3) ck_assert(least < 0.001 && most > 4.0);
    if (_i == 4) ck_assert(least < 0.1 && most > 2.0);
    if (_i == 5) ck_assert(least >= 1.0 / 3.0 && least < 0.334 && most > 5.0);
}
END_TEST

START_TEST(stragglers) {
    weft_pace p = weft_pace_default();
    double mean, least, most;
    uint64_t s, slow = 0;
    ck_assert_int_eq(weft_pace_parse_stragglers(&p, "0.1x10"), 1);
    moments(&p, &mean, &least, &most);
    ck_assert(least == 1.0 && most == 10.0);
    ck_assert_double_eq_tol(mean, 1.9, 0.03);
    p = weft_pace_default();
    p.slow = 2;
    p.slow_factor = 4.0;
    for (s = 0; s < 10; s++) {
        ck_assert(weft_pace_draw(&p, 1, 1, s) == 4.0);
        ck_assert(weft_pace_draw(&p, 1, 2, s) == 1.0);
    }
    /* successive steps, workers and seeds are independent: pairs of slow steps come as often as chance has them */
    weft_pace_parse_stragglers(&p, "0.5x2");
    p.slow = 0;
    for (s = 0; s < 10000; s++)
        slow += (weft_pace_draw(&p, 1, 0, s) > 1.0) + 2u * (weft_pace_draw(&p, 1, 0, s + 1) > 1.0) == 3u;
    ck_assert_double_eq_tol((double)slow, 2500.0, 250.0);
    for (s = slow = 0; s < 10000; s++)
        slow += (weft_pace_draw(&p, s, 0, 0) > 1.0) && (weft_pace_draw(&p, s, 1, 0) > 1.0);
    ck_assert_double_eq_tol((double)slow, 2500.0, 250.0);
}
END_TEST

START_TEST(a_draw_is_a_pure_function) {
    weft_pace p = weft_pace_default();
    double one, again;
    weft_pace_parse(&p, "lognormal:1:1");
    one = weft_pace_draw(&p, 3, 4, 5);
    weft_pace_draw(&p, 3, 4, 6);
    again = weft_pace_draw(&p, 3, 4, 5);
    ck_assert(one == again);
    ck_assert(one != weft_pace_draw(&p, 4, 4, 5) && one != weft_pace_draw(&p, 3, 5, 5) &&
              one != weft_pace_draw(&p, 3, 4, 6));
    p.mean = 1e6;
    p.slowdown = 1e6;
    p.probability = 1.0;
    p.slow = 5;
    p.slow_factor = 1e6;
    ck_assert_uint_le(weft_pace_draw_ns(&p, 3, 4, 5), UINT64_C(1000000000000000000)); /* and no overflow */
    p = weft_pace_default();
    ck_assert_uint_eq(weft_pace_draw_ns(&p, 3, 4, 5), 1000000000);
}
END_TEST

START_TEST(what_is_refused) {
    static const char *const pace[] = {"",
                                       "0",
                                       "-1",
                                       "nan",
                                       "inf",
                                       "1e7",
                                       "1s",
                                       "uniform:1",
                                       "uniform:1:1.1",
                                       "uniform:1:",
                                       "gamma:1:2",
                                       "pareto:1:1",
                                       "pareto:1:nan",
                                       "lognormal:1:6",
                                       "constant:1:2",
                                       "1:2",
                                       "uniform:1:-1",
                                       "exponential:",
                                       " 1",
                                       "1 "};
    static const char *const straggler[] = {"",        "0.1",     "0.1x",   "x10",    "1.1x10",  "0.1x0.5", "-0.1x10",
                                            "0.1x1e7", "0.1x10x", "0.1*10", "nanx10", "0.1xinf", "0.1x 10"};
    weft_pace p = weft_pace_default(), before = p;
    size_t i;
    for (i = 0; i < sizeof pace / sizeof *pace; i++) {
        ck_assert_msg(!weft_pace_parse(&p, pace[i]), "\"%s\" is taken", pace[i]);
        ck_assert_int_eq(memcmp(&p, &before, sizeof p), 0);
    }
    for (i = 0; i < sizeof straggler / sizeof *straggler; i++) {
        ck_assert_msg(!weft_pace_parse_stragglers(&p, straggler[i]), "\"%s\" is taken", straggler[i]);
        ck_assert_int_eq(memcmp(&p, &before, sizeof p), 0);
    }
    ck_assert_int_eq(weft_pace_parse_stragglers(&p, "0x1"), 0); /* strtod would take it for a hexadecimal one */
    ck_assert_int_eq(weft_pace_parse_stragglers(&p, "0.0x1"), 1);
}
END_TEST

START_TEST(graphs_by_name) {
    static const struct {
        const char *name;
        uint32_t workers, edges;
    } good[] = {{"ring", 8, 8},         {"chain", 8, 7},       {"star", 8, 7},        {"complete", 8, 28},
                {"torus", 12, 24},      {"torus:2x6", 12, 18}, {"torus", 7, 7},       {"hypercube", 16, 32},
                {"exponential", 8, 20}, {"er:1", 8, 28},       {"small:4:0", 10, 20}, {"ring", 1, 0}};
    static const struct {
        const char *name;
        uint32_t workers;
        const char *why;
    } bad[] = {{"", 4, "got ''"},
               {"rings", 4, "got 'rings'"},
               {"ring:2", 4, "got 'ring:2'"},
               {"torus:2x3", 5, "5 workers, got 2x3"},
               {"torus:0x0", 5, "5 workers, got 0x0"},
               {"torus:2x", 4, "got 'torus:2x'"},
               {"torus:4294967297x1", 1, "got 'torus:4294967297x1'"},
               {"hypercube", 12, "got 12"},
               {"hypercube:4", 16, "got 'hypercube:4'"},
               {"er", 4, "got 'er'"},
               {"er:0", 4, "probability"},
               {"er:1.5", 4, "got 'er:1.5'"},
               {"er:nan", 4, "got 'er:nan'"},
               {"er:0.0001", 50, "no connected draw"},
               {"small:3:0.1", 10, "degree"},
               {"small:4", 10, "got 'small:4'"},
               {"ring", 0, "workers: expected 1, got 0"}};
    weft_graph g;
    char why[240];
    size_t i;
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        void *m = weft_topology_make(good[i].name, good[i].workers, 1, &g, why, sizeof why);
        ck_assert_msg(m != NULL, "%s: %s", good[i].name, why);
        ck_assert_uint_eq(g.workers, good[i].workers);
        ck_assert_uint_eq(g.edges, good[i].edges);
        free(m);
    }
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_ptr_null(weft_topology_make(bad[i].name, bad[i].workers, 1, &g, why, sizeof why));
        ck_assert_msg(strstr(why, bad[i].why) != NULL, "%s: says \"%s\"", bad[i].name, why);
    }
}
END_TEST

START_TEST(codecs_by_name) {
    static const struct {
        const char *name;
        weft_codec codec;
    } good[] = {{"none", {WEFT_CODEC_IDENTITY, 0, 0, 0.0}},  {"bf16", {WEFT_CODEC_BF16, 0, 0, 0.0}},
                {"f16", {WEFT_CODEC_F16, 0, 0, 0.0}},        {"q8", {WEFT_CODEC_Q8, 0, 0, 0.0}},
                {"q4", {WEFT_CODEC_Q4, 0, 0, 0.0}},          {"sign", {WEFT_CODEC_SIGN, 0, 0, 0.0}},
                {"qsgd:1", {WEFT_CODEC_QSGD, 1, 0, 0.0}},    {"qsgd:16:biased", {WEFT_CODEC_QSGD, 16, 1, 0.0}},
                {"topk:0.3", {WEFT_CODEC_TOPK, 0, 0, 0.7}},  {"topk:1", {WEFT_CODEC_TOPK, 0, 0, 0.0}},
                {"topk:0.25", {WEFT_CODEC_TOPK, 0, 0, 0.75}}};
    static const char *const bad[] = {
        "",        "q",         "q88",          "Q8",           "q8:",      "q8:1",
        "none:0",  "qsgd",      "qsgd:",        "qsgd:0",       "qsgd:17",  "qsgd:08",
        "qsgd:8:", "qsgd:8:x",  "qsgd:+8",      "qsgd:8biased", "topk",     "topk:",
        "topk:0",  "topk:1.1",  "topk:-0.3",    "topk:0.3x",    "topk:nan", "topk:0x1",
        "topk:.",  "topk:1e-1", "topk:0.3:0.2", " q8",          "sign ",    "qsgd:99999999999"};
    char text[40];
    size_t i;
    for (i = 0; i < sizeof good / sizeof *good; i++) {
        weft_codec c = weft_codec_make(WEFT_CODEC_QSGD, 9, 1, 0.0);
        ck_assert_msg(weft_codec_parse(&c, good[i].name) == 1, "\"%s\" is refused", good[i].name);
        ck_assert(c.kind == good[i].codec.kind && c.bits == good[i].codec.bits && c.biased == good[i].codec.biased &&
                  c.drop == good[i].codec.drop);
        ck_assert_str_eq(weft_codec_text(&c, text, sizeof text), good[i].name);
    }
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        weft_codec c = weft_codec_q4();
        ck_assert_msg(weft_codec_parse(&c, bad[i]) == 0, "\"%s\" is taken", bad[i]);
        ck_assert(c.kind == WEFT_CODEC_Q4);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("options");
    TCase *t = tcase_create("options");
    SRunner *runner;
    int failed;
    tcase_add_loop_test(t, the_mean_is_the_mean, 0, 6);
    tcase_add_test(t, stragglers);
    tcase_add_test(t, a_draw_is_a_pure_function);
    tcase_add_test(t, what_is_refused);
    tcase_add_test(t, graphs_by_name);
    tcase_add_test(t, codecs_by_name);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
