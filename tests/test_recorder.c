/* SPDX-License-Identifier: MIT
 * The flight recorder (weft_recorder.h) and trace2json: a ring that wraps, the report of a worker that waits for one
 * that stands still (in virtual time, so that every number of it is known), and the picture of a simulated run: valid
 * JSON with every round in it and no arrow that goes back in time, however the clocks are set. Files that no recorder
 * has written are refused with file and line. */
#define WEFT_NO_SIMD
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "cluster.h"
#include "transports/weft_recorder.h"

#include <cjson/cJSON.h>
#include <check.h>
#include <sys/wait.h>
#include <unistd.h>

#define main trace2json_main
#include "../examples/trace2json.c"
#undef main

enum { WORKERS = 3, ROUNDS = 4, RING = 4096 };

static weft_record ring[WORKERS][RING];
static weft_recorder box[WORKERS];
static const size_t counts[2] = {40, 300};

static int recorded(cluster_worker *w) {
    weft_recorder_init(&box[w->rank], ring[w->rank], RING, &w->net);
    w->desc.trace = weft_recorder_event;
    w->desc.trace_ctx = &box[w->rank];
    return 1;
}

static cluster_desc described(uint64_t seed) {
    cluster_desc d = cluster_default(seed, WORKERS);
    d.sim.jitter_ns = 700;
    d.tensors = 2;
    d.count = counts;
    d.grawa.period_steps = 1;
    d.prepare = recorded;
    return d;
}

static char text[1 << 16];

/* What `write` writes into a file, as text. */
static const char *written(const weft_recorder *b, int report) {
    FILE *f = tmpfile();
    size_t n;
    ck_assert_ptr_nonnull(f);
    if (report)
        weft_recorder_report(b, f);
    else
        ck_assert_int_eq(weft_recorder_write(b, f), 1);
    rewind(f);
    n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    fclose(f);
    return text;
}

/* ---- the ring ---- */

static uint64_t clock_ns;
static uint64_t my_now(void *ctx) {
    (void)ctx;
    return clock_ns;
}

START_TEST(ring_wraps) {
    static weft_record small[8];
    weft_transport net;
    weft_recorder b;
    weft_event e;
    uint64_t n, i;
    memset(&net, 0, sizeof net);
    net.rank = 1;
    net.size = 3;
    net.now = my_now;
    weft_recorder_init(&b, small, 8, &net);
    ck_assert_ptr_null(weft_recorder_at(&b, 0));
    ck_assert_str_eq(written(&b, 0), "");
    ck_assert_str_eq(written(&b, 1), "worker 1 of 3: nothing has happened\n");
    memset(&e, 0, sizeof e);
    e.rank = 1;
    e.kind = WEFT_EVENT_SENT;
    for (n = 1; n <= 20; n++) {
        clock_ns = 100 * n;
        e.round = n;
        e.peer = n % 2 ? 0 : WEFT_NO_RANK;
        e.value = n * n;
        e.phase = n % 3 ? "a phase" : NULL;
        weft_recorder_event(&b, &e);
        for (i = 0; i < 8; i++) {
            const weft_record *r = weft_recorder_at(&b, i);
            if (i >= n) {
                ck_assert_ptr_null(r);
            } else {
                const uint64_t which = n < 8 ? i + 1 : n - 7 + i;
                ck_assert_uint_eq(r->event.round, which);
                ck_assert_uint_eq(r->at_ns, 100 * which);
            }
        }
        ck_assert_ptr_null(weft_recorder_at(&b, 8));
        if (n == 8) ck_assert_str_ne(written(&b, 0), "");
        if (n == 8) ck_assert_ptr_null(strchr(text, '#')); /* nothing has gone yet */
    }
    ck_assert_str_eq(written(&b, 0), "# rank 1: 12 earlier events are gone\n"
                                     "1300 1 sent 0 13 169 a phase\n"
                                     "1400 1 sent - 14 196 a phase\n"
                                     "1500 1 sent 0 15 225\n"
                                     "1600 1 sent - 16 256 a phase\n"
                                     "1700 1 sent 0 17 289 a phase\n"
                                     "1800 1 sent - 18 324\n"
                                     "1900 1 sent 0 19 361 a phase\n"
                                     "2000 1 sent - 20 400 a phase\n");
    weft_recorder_init(&b, small, 0, &net); /* no room at all */
    weft_recorder_event(&b, &e);
    ck_assert_ptr_null(weft_recorder_at(&b, 0));
}
END_TEST

START_TEST(names) {
    uint32_t k;
    ck_assert_str_eq(weft_recorder_name(WEFT_EVENT_ROUND_BEGUN), name_of[BEGUN]);
    for (k = 1; k <= WEFT_EVENT_VIEW; k++) ck_assert_str_eq(weft_recorder_name(k), name_of[k - 1]);
    ck_assert_str_eq(weft_recorder_name(99), name_of[OTHER]);
}
END_TEST

/* ---- the report ---- */

/* Worker 2 stands still in round 3: the others say what they wait for, and since when. */
START_TEST(a_worker_stands_still) {
    cluster_desc d = described(5);
    cluster c;
    uint32_t r;
    d.sim.jitter_ns = 0;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    ck_assert_msg(cluster_steps(&c, 2), "%s", c.why);
    cluster_advance(&c, 1000000 - weft_sim_now(&c.sim) % 1000000);
    for (r = 0; r < 2; r++) c.worker[r].status = grawa_step(c.worker[r].g, cluster_noise(&c.worker[r]));
    weft_sim_worker(&c.sim, 0, cluster_listen_step, &c.worker[0]);
    weft_sim_worker(&c.sim, 1, cluster_listen_step, &c.worker[1]);
    weft_sim_advance(&c.sim, 250000000);
    ck_assert_int_eq(c.worker[0].status, WEFT_AGAIN);
    written(&box[0], 1);
    ck_assert_msg(strncmp(text, "worker 0 of 3: round 3, gathering the norms since 0.250000 s\n", 61) == 0, "%s", text);
    ck_assert_msg(strstr(text, "  peer 1: last heard of in round 3, gathering the norms, 0.249999 s ago; last sent "
                               "to in round 3, gathering the norms, 0.250000 s ago\n") != NULL,
                  "%s", text);
    ck_assert_msg(strstr(text, "  peer 2: last heard of in round 2, ") != NULL, "%s", text);
    ck_assert_msg(strstr(strstr(text, "peer 2"), "; last sent to in round 3, gathering the norms, 0.250000 s ago; "
                                                 "nothing in this phase\n") != NULL,
                  "%s", text);
    ck_assert_ptr_null(strstr(text, "peer 0"));
    /* and the one that has heard nothing, because it does not listen, says so as well */
    written(&box[2], 1);
    ck_assert_ptr_nonnull(strstr(text, "worker 2 of 3: round 2, "));
    /* it is lost */
    weft_sim_lose(&c.sim, 2);
    weft_sim_advance(&c.sim, 1000000000);
    ck_assert_int_eq(c.worker[0].status, WEFT_ERR_PEER_LOST);
    written(&box[0], 1);
    ck_assert_msg(strstr(text, "  peer 2: lost in round 3, gathering the norms, 1.000000 s ago\n") != NULL, "%s", text);
    cluster_close(&c);
}
END_TEST

/* ---- trace2json ---- */

static char folder[] = "/tmp/weft-recorder-XXXXXX", path[WORKERS][80], out[80], err[80];

static void set_up(void) {
    int r;
    strcpy(strrchr(folder, '-'), "-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    for (r = 0; r < WORKERS; r++) snprintf(path[r], sizeof path[r], "%s/worker-%d.trace", folder, r);
    snprintf(out, sizeof out, "%s/run.json", folder);
    snprintf(err, sizeof err, "%s/errors", folder);
}

static void tear_down(void) {
    int r;
    for (r = 0; r < WORKERS; r++) unlink(path[r]);
    unlink(out);
    unlink(err);
    rmdir(folder);
}

/* Runs it as a process of its own; its exit status. */
static int convert(int files) {
    int status;
    pid_t p;
    fflush(NULL);
    p = fork();
    if (p == 0) {
        char program[] = "trace2json", *argv[WORKERS + 2] = {program, path[0], path[1], path[2], NULL};
        if (!freopen(out, "w", stdout) || !freopen(err, "w", stderr)) _exit(99);
        argv[files + 1] = NULL;
        status = trace2json_main(files + 1, argv);
        fflush(NULL);
        _exit(status);
    }
    ck_assert_int_gt(p, 0);
    ck_assert_int_eq(waitpid(p, &status, 0), p);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static char *whole(const char *name) {
    FILE *f = fopen(name, "rb");
    char *p;
    long n;
    ck_assert_ptr_nonnull(f);
    fseek(f, 0, SEEK_END);
    n = ftell(f);
    rewind(f);
    p = malloc((size_t)n + 1);
    ck_assert_uint_eq(fread(p, 1, (size_t)n, f), (size_t)n);
    p[n] = 0;
    fclose(f);
    return p;
}

static void put(int r, const char *what) {
    FILE *f = fopen(path[r], "w");
    ck_assert_ptr_nonnull(f);
    fputs(what, f);
    fclose(f);
}

static double field(const cJSON *e, const char *name) {
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(e, name);
    ck_assert_msg(cJSON_IsNumber(v), "no number %s", name);
    return v->valuedouble;
}

typedef struct picture {
    int rounds[WORKERS][ROUNDS + 2]; /* committed */
    int unfinished, arrows, rows;
    double least; /* of the times that arrows take */
} picture;

static picture read_picture(void) {
    static double begins[20000];
    picture p;
    char *json = whole(out);
    cJSON *all_of_it = cJSON_Parse(json), *list, *e;
    memset(&p, 0, sizeof p);
    p.least = 1e9;
    memset(begins, 0, sizeof begins);
    ck_assert_msg(all_of_it != NULL, "not JSON: %.200s", json);
    list = cJSON_GetObjectItemCaseSensitive(all_of_it, "traceEvents");
    ck_assert(cJSON_IsArray(list));
    cJSON_ArrayForEach(e, list) {
        const char *ph = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(e, "ph"));
        const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(e, "name"));
        const int tid = (int)field(e, "tid");
        const double ts = field(e, "ts");
        unsigned round;
        char how[20];
        ck_assert(ph && name && tid >= 0 && tid < WORKERS && ts >= 0);
        p.rows += *ph == 'M';
        if (*ph == 'X') {
            ck_assert_int_eq(sscanf(name, "round %u %15[a-z ]", &round, how), 2);
            ck_assert(field(e, "dur") >= 0);
            if (strcmp(how, "committed") == 0 && round <= ROUNDS) p.rounds[tid][round]++;
            p.unfinished += strcmp(how, "not over") == 0;
        } else if (*ph == 's') {
            ck_assert_uint_lt((size_t)field(e, "id"), 20000);
            begins[(size_t)field(e, "id")] = ts;
        } else if (*ph == 'f') {
            const double takes = ts - begins[(size_t)field(e, "id")];
            if (takes < p.least) p.least = takes;
            p.arrows++;
        } else if (*ph == 'i') {
            const cJSON *args = cJSON_GetObjectItemCaseSensitive(e, "args");
            ck_assert(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(args, "phase")));
        }
    }
    cJSON_Delete(all_of_it);
    free(json);
    return p;
}

static int received(void) {
    int n = 0, r;
    uint64_t i;
    for (r = 0; r < WORKERS; r++)
        for (i = 0; i < box[r].count; i++) n += ring[r][i].event.kind == WEFT_EVENT_RECEIVED;
    return n;
}

static void write_all(void) {
    int r;
    for (r = 0; r < WORKERS; r++) {
        FILE *f = fopen(path[r], "w");
        ck_assert_ptr_nonnull(f);
        ck_assert_int_eq(weft_recorder_write(&box[r], f), 1);
        fclose(f);
    }
}

/* _i: clocks as they are; one that is ahead, one that is far behind; all different. */
START_TEST(a_simulated_run) {
    static const int64_t ahead[4][WORKERS] = {{0, 0, 0}, {0, 70000000, 0}, {0, 0, -300000000}, {50, 7000, 90000000}};
    cluster_desc d = described(7);
    cluster c;
    picture p;
    uint32_t r, k;
    uint64_t i;
    d.sim.mode = (weft_sim_mode)_i;
    d.sim.eager_bytes = 100;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    for (r = 0; r < WORKERS; r++) c.worker[r].step_ns = 2000 + 500 * r;
    c.sim.now = 1000000000; /* so that a clock may be behind */
    ck_assert_msg(cluster_run(&c, ROUNDS), "%s", c.why);
    for (r = 0; r < WORKERS; r++) {
        ck_assert_uint_gt(box[r].count, 4 * ROUNDS);
        ck_assert_uint_le(box[r].count, RING);
        for (i = 0; i < box[r].count; i++) ring[r][i].at_ns += (uint64_t)ahead[_i][r];
    }
    write_all();
    ck_assert_int_eq(convert(WORKERS), 0);
    p = read_picture();
    ck_assert_int_eq(p.rows, WORKERS);
    for (r = 0; r < WORKERS; r++)
        for (k = 1; k <= ROUNDS; k++)
            ck_assert_msg(p.rounds[r][k] == 1, "round %u of worker %u: %d times", k, r, p.rounds[r][k]);
    ck_assert_int_eq(p.unfinished, 0);
    ck_assert_int_eq(p.arrows, received());
    ck_assert_msg(p.least >= 0, "an arrow goes back by %g us", -p.least);
    if (!_i) ck_assert_msg(p.least > 0.5, "a message takes %g us", p.least); /* latency: 1 */
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* Rings that have run over: rounds that have begun before are not there, and arrows are still right. */
START_TEST(rings_run_over) {
    cluster_desc d = described(9);
    cluster c;
    picture p;
    uint32_t r;
    ck_assert_msg(cluster_open(&c, &d), "%s", c.why);
    for (r = 0; r < WORKERS; r++) weft_recorder_init(&box[r], ring[r], 60 + 10 * r, &c.worker[r].net);
    ck_assert_msg(cluster_steps(&c, ROUNDS), "%s", c.why);
    cluster_advance(&c, 100000);
    for (r = 0; r < WORKERS; r++) ck_assert_uint_gt(box[r].count, 60 + 10 * r);
    write_all();
    ck_assert_int_eq(convert(WORKERS), 0);
    p = read_picture();
    for (r = 0; r < WORKERS; r++) ck_assert_int_eq(p.rounds[r][ROUNDS], 1);
    ck_assert_int_gt(p.arrows, 30);
    ck_assert_msg(p.least > 0.5, "a message takes %g us", p.least);
    ck_assert_msg(cluster_close(&c), "%s", c.why);
}
END_TEST

/* A round that is not over, messages that never came, and clocks that cannot be made to agree. */
START_TEST(what_does_not_fit) {
    picture p;
    put(0, "1000 0 begun - 1 0\n2000 0 sent 1 1 20\n3000 0 sent 1 1 20\n9000 0 received 1 1 30\n");
    put(1, "500 1 begun - 1 0 gathering\n2500 1 received 0 1 20 gathering\n2600 1 committed - 1 2\n");
    put(2, "");
    ck_assert_int_eq(convert(3), 0);
    p = read_picture();
    ck_assert_int_eq(p.rounds[1][1], 1);
    ck_assert_int_eq(p.unfinished, 1);
    ck_assert_int_eq(p.arrows, 1); /* the first of 0's; nobody has sent what it received */
    ck_assert(p.least > 0.49 && p.least < 0.51);
    /* each has sent after it has heard the other */
    put(0, "1000 0 received 1 1 20\n2000 0 sent 1 1 30\n");
    put(1, "1000 1 received 0 1 30\n2000 1 sent 0 1 20\n");
    ck_assert_int_eq(convert(2), 0);
    p = read_picture();
    ck_assert_int_le(p.arrows, 1);
    ck_assert(p.least >= 0);
    ck_assert_int_eq(convert(0), 2);
}
END_TEST

START_TEST(hostile_files) {
    static const char *const bad[] = {
        "x\n", "1 0 sent 1 1\n", "1 0 sent 1 1 x\n", "-1 0 sent 1 1 1\n", "+1 0 sent 1 1 1\n", "1  0 sent 1 1 1\n",
        "99999999999999999999 0 sent 1 1 1\n", "9999999999999999999 0 sent 1 1 1\n", "1 4096 sent 1 1 1\n",
        "1 -1 sent 1 1 1\n", "1 0 sent 4096 1 1\n", "1 0 sent -1 1 1\n", "1 0 sent 1x 1 1\n", "1 0 sent - 1 1\n",
        "1 0 received - 1 1\n", "1 0 stolen 1 1 1\n", "1 0 sent\n", "1 0  1 1 1\n", "1 0 sent 1 1 1\"\n",
        "1 0 sent 1 1 1 a \"phase\"\n", "1 0 sent 1 1 1 back\\slash\n", "1 0 sent 1 1 1 tab\there\n",
        "1 0 sent 1 1 1 caf\xC3\xA9\n", "1 0 sent 1 1 18446744073709551616\n", " 1 0 sent 1 1 1\n", "\n"};
    size_t i;
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        char where[120], *said, long_line[400];
        snprintf(long_line, sizeof long_line, "1 0 begun - 1 0 %0300d\n# whatever\n%s", 0, bad[i]);
        put(0, long_line);
        ck_assert_msg(convert(1) == 2, "taken: %s", bad[i]);
        snprintf(where, sizeof where, "trace2json: %s:3: ", path[0]);
        said = whole(err);
        ck_assert_msg(strncmp(said, where, strlen(where)) == 0, "%s: %s", bad[i], said);
        free(said);
        said = whole(out);
        ck_assert_str_eq(said, ""); /* nothing half done */
        free(said);
    }
    {
        FILE *f = fopen(path[0], "wb");
        char *said;
        fwrite("1 0 begun - 1 0\0 and more\n", 1, 26, f);
        fclose(f);
        ck_assert_int_eq(convert(1), 2);
        said = whole(err);
        ck_assert_ptr_nonnull(strstr(said, "worker-0.trace:1: "));
        free(said);
    }
    put(0, "1 0 begun - 1 0"); /* the last line need not end */
    ck_assert_int_eq(convert(1), 0);
    unlink(path[0]);
    ck_assert_int_eq(convert(1), 2); /* not there */
}
END_TEST

/* Many events, in an order that a look at all of them for each would never get through. */
START_TEST(many_events) {
    const int n = 200000;
    int r, i;
    for (r = 0; r < 2; r++) {
        FILE *f = fopen(path[r], "w");
        ck_assert_ptr_nonnull(f);
        for (i = 0; i < n / 2; i++)
            fprintf(f, "%d %d %s %d %d 20\n", i * 10 + r, r, i % 2 ? "begun" : r ? "received" : "sent", !r, i);
        fclose(f);
    }
    ck_assert_int_eq(convert(2), 0);
    {
        FILE *f = fopen(out, "r");
        char row[400];
        int arrows = 0;
        ck_assert_ptr_nonnull(f);
        while (fgets(row, sizeof row, f)) arrows += strncmp(row, "{\"ph\":\"f\"", 9) == 0;
        ck_assert_int_eq(arrows, n / 4);
        fclose(f);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("recorder");
    TCase *t = tcase_create("recorder");
    SRunner *runner;
    int failed;
    tcase_add_test(t, ring_wraps);
    tcase_add_test(t, names);
    tcase_add_test(t, a_worker_stands_still);
    suite_add_tcase(s, t);
    t = tcase_create("trace2json");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, a_simulated_run, 0, 4);
    tcase_add_test(t, rings_run_over);
    tcase_add_test(t, what_does_not_fit);
    tcase_add_test(t, hostile_files);
    tcase_add_test(t, many_events);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
