/* SPDX-License-Identifier: MIT
 * bench-collectives: sums over all ranks, ours between the threads of one process, against OpenMPI and Gloo between
 * processes of this machine.
 *
 * Everybody sums float vectors in place. Contestants take turns, block after block, in an order that rotates; the
 * processes of peers live on between their turns, and sleep. A block is a number of operations one after the other,
 * after some that are not timed and a barrier; its value is rank 0's time by the number of operations. Ratios are
 * formed of two blocks of one round; reported are medians and quartiles over the rounds. Before anything is timed,
 * each one's sum must be right. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "child.h"
#include "clock.h"
#include "collectives.h"
#include "latency.h"
#include "load.h"
#include "machine.h"
#include "options.h"
#include "report.h"
#include "stats.h"
#include "table.h"

#include <libgen.h>
#include <sys/mman.h>

enum { MOST_SIZES = 16, MOST_COUNTS = 8, MOST_ROUNDS = 41, MOST_RANKS = 64 };

typedef struct settings {
    double size[MOST_SIZES], ranks[MOST_COUNTS];
    size_t sizes, counts;
    const char *rows_at, *only;
    int quick;
    double seconds;
    char programs[4096]; /* folder of the peers' programs */
} settings;

typedef enum who { SUM, HOST, MESSAGES, MPI_SHM, MPI_TCP, GLOO, CONTESTANTS } who;

static const struct {
    const char *key, *title, *column, *what;
} names[CONTESTANTS] = {
    {"sum", "ours: all_reduce", "ours: all_reduce", "the transport's all_reduce, in place, as MPI_Allreduce"},
    {"host", "ours: object, host's sum", "object, host's sum",
     "the collective object, which commits wholly or not at all, over that"},
    {"messages", "ours: object, messages", "object, messages",
     "the collective object over send and recv, the same bits on any transport"},
    {"mpi-shm", "OpenMPI, shared memory", "OpenMPI shm", "mpirun, MPI_Allreduce in place, btl vader"},
    {"mpi-tcp", "OpenMPI, TCP", "OpenMPI tcp", "mpirun, MPI_Allreduce in place, btl tcp over loopback"},
    {"gloo", "Gloo", "Gloo", "ProcessGroupGloo, over loopback"},
};

typedef struct contestant {
    ours *own;
    children *peer;
    int present;
    int operations;
    double seconds[MOST_ROUNDS];
    stats time;
} contestant;

typedef struct row {
    int ranks;
    size_t bytes, rounds;
    contestant c[CONTESTANTS];
    double core_to_core[MOST_ROUNDS];
    stats latency;
    load others; /* while ours was measured: the peers sleep then */
} row;

/* ---- peers ---- */

static children peers[CONTESTANTS];

static void mpi_start(children *p, const settings *s, int ranks, int tcp) {
    char program[4200], count[16];
    char *shm_argv[] = {(char *)"mpirun", (char *)"--allow-run-as-root", (char *)"--oversubscribe", (char *)"-n", count,
                        (char *)"--mca", (char *)"pml", (char *)"ob1", (char *)"--mca", (char *)"btl",
                        (char *)(tcp ? "tcp,self" : "vader,self"), (char *)"--mca", (char *)"btl_tcp_if_include",
                        (char *)"lo", program, NULL};
    snprintf(program, sizeof program, "%s/bench-peer-mpi", s->programs);
    snprintf(count, sizeof count, "%d", ranks);
    if (access(program, X_OK) == 0) children_add(p, shm_argv);
}

static void gloo_start(children *p, const settings *s, int ranks) {
    char program[4200], rank[16], count[16], store[] = "/tmp/bench-gloo-XXXXXX";
    char *argv[] = {program, rank, count, store, NULL};
    int i, fd;
    snprintf(program, sizeof program, "%s/bench-peer-gloo", s->programs);
    if (access(program, X_OK) != 0 || (fd = mkstemp(store)) < 0) return;
    close(fd);
    snprintf(count, sizeof count, "%d", ranks);
    for (i = 0; i < ranks; i++) {
        snprintf(rank, sizeof rank, "%d", i);
        if (!children_add(p, argv)) break;
    }
    if (i == ranks) {
        char answer[CHILD_LINE];
        children_ask(p, "check 4\n", answer); /* after which all have found all others */
    }
    unlink(store);
}

static void peers_start(const settings *s, int ranks) {
    int i;
    for (i = MPI_SHM; i < CONTESTANTS; i++) {
        children *p = &peers[i];
        memset(p, 0, sizeof *p);
        p->name = names[i].title;
        if (!option_lists(s->only, names[i].key)) continue;
        if (i == GLOO) gloo_start(p, s, ranks);
        else mpi_start(p, s, ranks, i == MPI_TCP);
    }
}

static void peers_stop(void) {
    int i;
    for (i = MPI_SHM; i < CONTESTANTS; i++)
        if (peers[i].count) children_stop(&peers[i]);
}

/* ---- one contestant ---- */

/* Seconds an operation; a peer that fails is not present any more. */
static double block(contestant *c, size_t bytes, int operations) {
    char command[128], answer[CHILD_LINE];
    if (c->own) return ours_block(c->own, operations);
    snprintf(command, sizeof command, "run %zu %d\n", bytes, operations);
    if (children_ask(c->peer, command, answer)) return atof(answer);
    c->present = 0;
    return (double)NAN;
}

static int check(contestant *c, size_t bytes) {
    char command[128], answer[CHILD_LINE];
    if (c->own) return ours_check(c->own);
    snprintf(command, sizeof command, "check %zu\n", bytes);
    if (!children_ask(c->peer, command, answer)) c->present = 0;
    return !c->present || answer[0] == '1';
}

/* As many operations as take a twentieth of a second; vectors that grow bound them. */
static void calibrate(contestant *c, size_t bytes, int quick) {
    const double wanted = quick ? 0.02 : 0.05;
    int most = bytes <= SMALL_BYTES ? 50000 : MOST_OPERATIONS * 4 / 5, n;
    for (n = 1; n < most; n *= 4)
        if (block(c, bytes, n) * n > wanted / 8) break;
    if (!c->present) return;
    if (n > most) n = most;
    c->operations = (int)fmin(most, fmax(1, wanted / block(c, bytes, n)));
}

/* ---- a row ---- */

static float *vector_map(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED) return (float *)p;
    fprintf(stderr, "bench-collectives: %zu bytes cannot be had\n", bytes);
    exit(1);
}

static void run_row(row *r, const settings *s) {
    const size_t least = s->quick ? 3 : 7;
    float *vector[MOST_RANKS];
    double start;
    int i, at;
    for (i = 0; i < r->ranks; i++) vector[i] = vector_map(r->bytes);
    for (i = 0; i < CONTESTANTS; i++) {
        contestant *c = &r->c[i];
        if (i < MPI_SHM && option_lists(s->only, names[i].key))
            c->own = ours_open((enum ours_mode)i, r->ranks, r->bytes, vector);
        else if (peers[i].count) c->peer = &peers[i];
        c->present = c->own || c->peer;
        if (c->present && !check(c, r->bytes)) {
            fprintf(stderr, "bench-collectives: %s: the sum is wrong\n", names[i].title);
            exit(1);
        }
        if (c->present) calibrate(c, r->bytes, s->quick);
    }
    start = clock_now();
    while (r->rounds < least || (r->rounds < MOST_ROUNDS && clock_now() - start < s->seconds)) {
        r->core_to_core[r->rounds] = latency_ns();
        for (i = 0; i < CONTESTANTS; i++) {
            contestant *c = &r->c[at = (i + (int)r->rounds) % CONTESTANTS];
            c->seconds[r->rounds] = (double)NAN;
            if (!c->present) continue;
            clock_sleep(2e-3); /* the one before has gone to sleep */
            if (c->own) load_begin(&r->others);
            c->seconds[r->rounds] = block(c, r->bytes, c->operations);
            if (c->own) load_end(&r->others);
        }
        r->rounds++;
    }
    for (i = 0; i < CONTESTANTS; i++) {
        r->c[i].time = stats_of(r->c[i].seconds, r->c[i].present ? r->rounds : 0);
        if (r->c[i].own) ours_close(r->c[i].own);
    }
    r->latency = stats_of(r->core_to_core, r->rounds);
    for (i = 0; i < r->ranks; i++) munmap(vector[i], r->bytes);
}

/* ---- goals and reporting ---- */

/* How many times as fast as `peer` ours shall be at this size; 0: no goal. */
static double goal_of(size_t bytes, who peer) {
    if (bytes <= 4096) return peer == MPI_SHM ? 1 : 0;
    if (bytes != (size_t)100 << 20) return 0;
    return peer == MPI_SHM ? 5 : peer == GLOO ? 10 : 0;
}

/* Peer / `own`. */
static stats ratio_of(const row *r, who peer, who own) {
    const int both = r->c[peer].present && r->c[own].present;
    return stats_of_ratios(r->c[peer].seconds, r->c[own].seconds, both ? r->rounds : 0);
}

static const char *judge(double ratio, double goal) {
    if (goal == 0 || !isfinite(ratio)) return "-";
    return ratio >= goal ? "yes" : ratio >= 0.85 * goal ? "within slack" : "no";
}

static void json_stats(json *j, const char *key, stats s, double scale) {
    json_begin(j, key, '{');
    json_number(j, "q1", s.q1 * scale);
    json_number(j, "median", s.median * scale);
    json_number(j, "q3", s.q3 * scale);
    json_end(j, '}');
}

static void write_row(report *out, const machine *m, const row *r) {
    json *j = &out->rows;
    int i, k;
    json_line_begin(j);
    json_text(j, "bench", "collectives");
    json_text(j, "date", m->date);
    json_text(j, "operation", "all-reduce, float, in place");
    json_integer(j, "ranks", r->ranks);
    json_integer(j, "bytes", (long long)r->bytes);
    json_integer(j, "rounds", (long long)r->rounds);
    json_stats(j, "core_to_core_ns", r->latency, 1);
    json_number(j, "others_load", load_share(&r->others));
    json_begin(j, "contestants", '[');
    for (i = 0; i < CONTESTANTS; i++) {
        if (!r->c[i].present) continue;
        json_begin(j, NULL, '{');
        json_text(j, "name", names[i].title);
        json_text(j, "what", names[i].what);
        json_integer(j, "operations_a_block", r->c[i].operations);
        json_stats(j, "us", r->c[i].time, 1e6);
        for (k = SUM; i >= MPI_SHM && k < MPI_SHM; k++) {
            char key[64];
            snprintf(key, sizeof key, "ratio_to_%s", names[k].key);
            if (r->c[k].present) json_stats(j, key, ratio_of(r, (who)i, (who)k), 1);
        }
        if (i >= MPI_SHM && goal_of(r->bytes, (who)i) > 0) {
            json_number(j, "goal", goal_of(r->bytes, (who)i));
            json_text(j, "met", judge(ratio_of(r, (who)i, SUM).median, goal_of(r->bytes, (who)i)));
        }
        json_end(j, '}');
    }
    json_end(j, ']');
    machine_row(m, j);
    json_line_end(j);
}

static void size_text(char *text, size_t size, size_t bytes) {
    if (bytes >= 1 << 20 && bytes % (1 << 20) == 0) snprintf(text, size, "%zu MiB", bytes >> 20);
    else if (bytes >= 1000000 && bytes % 1000000 == 0) snprintf(text, size, "%zu MB", bytes / 1000000);
    else if (bytes >= 1024 && bytes % 1024 == 0) snprintf(text, size, "%zu KiB", bytes >> 10);
    else snprintf(text, size, "%zu B", bytes);
}

static void table_ratio(table *t, stats s) {
    if (isfinite(s.median)) table_cell(t, "%.2f (%.2f to %.2f)", s.median, s.q1, s.q3);
    else table_cell(t, "-");
}

static void lines(const row *r, table *times, table *ratios) {
    char size[32];
    int i, peer;
    size_text(size, sizeof size, r->bytes);
    table_row(times);
    table_cell(times, "%d", r->ranks);
    table_cell(times, "%s", size);
    for (i = 0; i < CONTESTANTS; i++) table_number(times, r->c[i].time.median * 1e6, "");
    table_cell(times, "%.0f to %.0f", r->latency.q1, r->latency.q3);
    table_number(times, 100 * load_share(&r->others), " %");
    for (peer = MPI_SHM; peer < CONTESTANTS; peer++) {
        const double goal = goal_of(r->bytes, (who)peer);
        if (!r->c[peer].present) continue;
        table_row(ratios);
        table_cell(ratios, "%d", r->ranks);
        table_cell(ratios, "%s", size);
        table_cell(ratios, "%s", names[peer].title);
        table_ratio(ratios, ratio_of(r, (who)peer, SUM));
        table_number(ratios, goal > 0 ? goal : (double)NAN, "");
        table_cell(ratios, "%s", judge(ratio_of(r, (who)peer, SUM).median, goal));
        table_ratio(ratios, ratio_of(r, (who)peer, HOST));
        table_ratio(ratios, ratio_of(r, (who)peer, MESSAGES));
    }
}

static void say_head(report *out, const machine *m, const settings *s) {
    int i;
    report_say(out, "# Collectives\n\n");
    report_say(out, "- Written by `make bench-collectives`%s.\n", s->quick ? " with --quick: a look, no result" : "");
    machine_report(m, out);
    for (i = 0; i < CONTESTANTS; i++) {
        char hello[CHILD_LINE];
        if (!option_lists(s->only, names[i].key)) continue;
        if (i < MPI_SHM) report_say(out, "- %s: %s\n", names[i].title, names[i].what);
        else if (peers[i].count && children_ask(&peers[i], "hello\n", hello))
            report_say(out, "- %s: %s; %s\n", names[i].title, hello, names[i].what);
        else report_say(out, "- %s: not here, left out (make bench-deps)\n", names[i].title);
    }
    report_say(out, "\nAll-reduce of floats in place, ours between threads of one process, others between processes.\n"
                    "Microseconds are medians. Ratios are peer / ours, formed round by round, with their quartiles.\n"
                    "Core to core: nanoseconds for a cache line, quartiles. Others: how much of the processors other\n"
                    "programs had meanwhile.\n\n");
}

static void run_all(const settings *s, report *out, const machine *m) {
    table *times, *ratios;
    char titles[512];
    size_t n, i;
    int k;
    size_t used = (size_t)snprintf(titles, sizeof titles, ">ranks|>size");
    for (k = 0; k < CONTESTANTS; k++)
        used += (size_t)snprintf(titles + used, sizeof titles - used, "|>%s", names[k].column);
    snprintf(titles + used, sizeof titles - used, "|>core to core, ns|>others");
    times = table_new(titles);
    ratios = table_new(">ranks|>size|peer|>/ all_reduce|>goal|met|>/ object, host's sum|>/ object, messages");
    for (n = 0; n < s->counts; n++) {
        peers_start(s, (int)s->ranks[n]);
        if (n == 0) say_head(out, m, s);
        for (i = 0; i < s->sizes; i++) {
            static row r;
            memset(&r, 0, sizeof r);
            r.ranks = (int)s->ranks[n];
            r.bytes = (size_t)s->size[i];
            fprintf(stderr, "%d ranks, %zu bytes ...", r.ranks, r.bytes);
            run_row(&r, s);
            for (k = 0; k < CONTESTANTS; k++)
                if (r.c[k].present) fprintf(stderr, " %s %.3g us,", names[k].key, r.c[k].time.median * 1e6);
            fprintf(stderr, " %zu rounds\n", r.rounds);
            write_row(out, m, &r);
            lines(&r, times, ratios);
        }
        peers_stop();
    }
    report_say(out, "## Microseconds\n\n");
    table_print(times, out);
    report_say(out, "## Times as fast\n\n");
    table_print(ratios, out);
}

static void usage(FILE *to) {
    int i;
    fprintf(to, "bench-collectives [options]\n"
                "  --sizes LIST     bytes (4,4Ki,1Mi,100Mi)\n"
                "  --full           500 MB as well\n"
                "  --ranks LIST     ranks (2,4)\n"
                "  --only NAMES     of these:");
    for (i = 0; i < CONTESTANTS; i++) fprintf(to, "%s %s", i ? "," : "", names[i].key);
    fprintf(to, "\n"
                "  --seconds S      for the rounds of a row (8)\n"
                "  --quick          few rounds, to see whether everything works\n"
                "  --json FILE      rows as JSON lines into FILE, the report beside it as .md (default: none)\n");
}

static settings settings_read(int argc, char **argv) {
    settings s;
    options o;
    const char *v;
    char self[4096];
    ssize_t n;
    size_t i;
    memset(&s, 0, sizeof s);
    o.argc = argc;
    o.argv = argv;
    s.sizes = option_numbers("4,4Ki,1Mi,100Mi", s.size, MOST_SIZES);
    s.counts = option_numbers("2,4", s.ranks, MOST_COUNTS);
    for (o.at = 1; o.at < argc;) {
        if (option_switch(&o, "--help")) {
            usage(stdout);
            exit(0);
        }
        if (option_switch(&o, "--quick")) s.quick = 1;
        else if (option_switch(&o, "--full")) s.sizes = option_numbers("4,4Ki,1Mi,100Mi,500M", s.size, MOST_SIZES);
        else if ((v = option_value(&o, "--sizes"))) s.sizes = option_numbers(v, s.size, MOST_SIZES);
        else if ((v = option_value(&o, "--ranks"))) s.counts = option_numbers(v, s.ranks, MOST_COUNTS);
        else if ((v = option_value(&o, "--only"))) s.only = v;
        else if ((v = option_value(&o, "--json"))) s.rows_at = v;
        else if ((v = option_value(&o, "--seconds"))) s.seconds = atof(v);
        else {
            fprintf(stderr, "bench-collectives: what is '%s'?\n", argv[o.at]);
            usage(stderr);
            exit(2);
        }
    }
    for (i = 0; i < s.sizes; i++) s.size[i] = floor(s.size[i] / 4) * 4;
    for (i = 0; i < s.counts; i++)
        if (s.ranks[i] < 2 || s.ranks[i] > 4) {
            fprintf(stderr, "bench-collectives: 2 to 4 ranks\n");
            exit(2);
        }
    if (s.seconds <= 0) s.seconds = s.quick ? 0.5 : 8;
    n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    snprintf(s.programs, sizeof s.programs, "%s", n > 0 ? dirname(self) : ".");
    return s;
}

int main(int argc, char **argv) {
    const settings s = settings_read(argc, argv);
    machine m;
    report out;
    signal(SIGPIPE, SIG_IGN);
    machine_describe(&m);
    report_open(&out, s.rows_at);
    run_all(&s, &out, &m);
    report_close(&out);
    return 0;
}
