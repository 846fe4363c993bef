/* SPDX-License-Identifier: MIT
 * trace2json: what flight recorders wrote (weft_recorder.h), as JSON for chrome://tracing or Perfetto.
 *
 *     build/trace2json FILE... > run.json
 *
 * A row for each worker: its rounds from begun to committed or abandoned, what it sent and received and what it was
 * doing then, and an arrow from each message sent to the one received. Workers on several machines have clocks of
 * their own: rows are shifted so that no message comes before it was sent, as far as that can be had. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

enum { MOST_WORKERS = 4096 };
static const uint64_t MOST_NS = UINT64_C(1) << 61; /* 73 years: clocks can be shifted without overflow */

enum { BEGUN, SENT, RECEIVED, COMMITTED, ABANDONED, LOST, LEFT, VIEW, OTHER, KINDS };
static const char *const name_of[KINDS] = {"begun",     "sent", "received", "committed",
                                           "abandoned", "lost", "left",     "view",      "?"};

typedef struct line {
    uint64_t at_ns, round, value;
    uint32_t rank, peer; /* peer: UINT32_MAX: none */
    int what;
    size_t order;  /* of reading */
    size_t other;  /* of a message received: 1 + which was sent; of a round begun: 1 + its end; 0: not here */
    char *phase;   /* NULL: not said */
} line;

static line *all;
static size_t count, room;
static bool run_over[MOST_WORKERS]; /* its first events are gone */

static void refuse(const char *file, size_t at, const char *why) {
    if (at)
        fprintf(stderr, "trace2json: %s:%zu: %s\n", file, at, why);
    else
        fprintf(stderr, "trace2json: %s: %s\n", file, why);
    exit(2);
}

/* A number of decimal digits, and the blank behind it. */
static bool number(char **at, uint64_t *to) {
    char *p = *at;
    uint64_t v = 0;
    if (*p < '0' || *p > '9') return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        const uint64_t digit = (uint64_t)(*p - '0');
        if (v > (UINT64_MAX - digit) / 10) return false;
        v = v * 10 + digit;
    }
    if (*p && *p++ != ' ') return false;
    *at = p;
    *to = v;
    return true;
}

static bool word(char **at, char **to) {
    char *p = *at;
    *to = p;
    while (*p && *p != ' ') p++;
    if (!*p || p == *to) return false;
    *p = 0;
    *at = p + 1;
    return true;
}

static void read_line(const char *file, size_t at, char *text) {
    static const char *const expected =
        "not a line of a flight recorder: nanoseconds, rank, what, peer, round, value, phase are expected";
    uint64_t rank, peer;
    char *p = text, *what, *who, *c;
    line l;
    unsigned long gone;
    int used = 0;
    memset(&l, 0, sizeof l);
    if (*text == '#') {
        if (sscanf(text, "# rank %lu:%n", &gone, &used) == 1 && used && gone < MOST_WORKERS) run_over[gone] = true;
        return;
    }
    if (!number(&p, &l.at_ns) || !number(&p, &rank) || !word(&p, &what) || !word(&p, &who) || !number(&p, &l.round) ||
        !number(&p, &l.value))
        refuse(file, at, expected);
    while (l.what < KINDS && strcmp(what, name_of[l.what]) != 0) l.what++;
    if (l.what == KINDS) refuse(file, at, expected);
    if (l.at_ns > MOST_NS) refuse(file, at, "a time that no clock shows");
    if (rank >= MOST_WORKERS) refuse(file, at, "a rank is a number below 4096");
    l.rank = (uint32_t)rank;
    l.peer = UINT32_MAX;
    if (strcmp(who, "-") != 0) {
        if (!number(&who, &peer) || *who || peer >= MOST_WORKERS)
            refuse(file, at, "a peer is a number below 4096, or -");
        l.peer = (uint32_t)peer;
    } else if (l.what == SENT || l.what == RECEIVED) {
        refuse(file, at, "a message without a peer");
    }
    for (c = p; *c; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c > '~' || *c == '"' || *c == '\\')
            refuse(file, at, "a phase is plain text");
    if (*p && !(l.phase = strdup(p))) refuse(file, 0, "out of memory");
    if (count == room) {
        room = room ? 2 * room : 1024;
        all = realloc(all, room * sizeof *all);
        if (!all) refuse(file, 0, "out of memory");
    }
    l.order = count;
    all[count++] = l;
}

static void read_file(const char *name) {
    FILE *in = fopen(name, "r");
    char *text = NULL;
    size_t at = 0, space = 0;
    ssize_t n;
    if (!in) refuse(name, 0, strerror(errno));
    while ((n = getline(&text, &space, in)) > 0) {
        at++;
        if (text[n - 1] == '\n') text[--n] = 0;
        if (strlen(text) != (size_t)n) refuse(name, at, "a byte 0");
        read_line(name, at, text);
    }
    if (ferror(in)) refuse(name, 0, strerror(errno));
    free(text);
    fclose(in);
}

static int by_time(const void *a, const void *b) {
    const line *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->at_ns != y->at_ns) return x->at_ns < y->at_ns ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static bool is(const line *l, int what) { return l->what == what; }

/* Messages of one length between two workers come in the order in which they were sent. They are counted at both ends:
 * from the first on; or, if a recorder has run over and lacks the first ones, from the last on, which is right as long
 * as all that was sent has come. */
static line **message;
static size_t messages;

static uint32_t source(const line *l) { return l->what == SENT ? l->rank : l->peer; }
static uint32_t target(const line *l) { return l->what == SENT ? l->peer : l->rank; }

static int by_flow(const void *a, const void *b) {
    const line *x = *(line *const *)a, *y = *(line *const *)b;
    if (source(x) != source(y)) return source(x) < source(y) ? -1 : 1;
    if (target(x) != target(y)) return target(x) < target(y) ? -1 : 1;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return 0;
}

static int by_flow_and_place(const void *a, const void *b) {
    const line *x = *(line *const *)a, *y = *(line *const *)b;
    const int flow = by_flow(a, b);
    if (flow) return flow;
    if (x->what != y->what) return x->what == SENT ? -1 : 1;
    return x < y ? -1 : x > y; /* all[] is sorted by time */
}

/* Each message received learns which one that was. */
static void pair_messages(void) {
    size_t i, end, sent, k;
    message = malloc((count + 1) * sizeof *message);
    if (!message) refuse("messages", 0, "out of memory");
    for (i = 0; i < count; i++)
        if (is(&all[i], SENT) || is(&all[i], RECEIVED)) message[messages++] = &all[i];
    qsort(message, messages, sizeof *message, by_flow_and_place);
    for (i = 0; i < messages; i = end) {
        for (end = i; end < messages && by_flow(&message[i], &message[end]) == 0; end++) continue;
        for (sent = i; sent < end && message[sent]->what == SENT; sent++) continue;
        /* i .. sent: at the one end; sent .. end: at the other */
        for (k = sent; k < end; k++) {
            const bool from_last = run_over[source(message[i])] || run_over[target(message[i])];
            const size_t n = from_last ? end - 1 - k : k - sent;
            if (n < sent - i)
                message[k]->other = 1 + (size_t)((from_last ? message[sent - 1 - n] : message[i + n]) - all);
        }
    }
}

/* Each round begun learns where it ends: the next time that its worker commits or abandons one. */
static void end_rounds(void) {
    size_t i, end = 0;
    for (i = count; i-- > 0;) {
        if (i + 1 < count && all[i + 1].rank != all[i].rank) end = 0;
        if (is(&all[i], COMMITTED) || is(&all[i], ABANDONED)) end = i + 1;
        if (is(&all[i], BEGUN)) all[i].other = end;
    }
}

static const line *sent_of(const line *received) { return received->other ? &all[received->other - 1] : NULL; }

static int64_t shift[MOST_WORKERS];

static int64_t when(const line *l) { return (int64_t)l->at_ns + shift[l->rank]; }

/* Rows move to the right until no message comes before it was sent, or it is clear that this has no end: a chain of so
 * many workers needs as many turns. */
static void align(void) {
    size_t i, turns = 2;
    bool moved = true;
    for (i = 1; i < count; i++) turns += all[i].rank != all[i - 1].rank;
    if (turns > 256) turns = 256;
    for (; moved && turns; turns--) {
        moved = false;
        for (i = 0; i < messages; i++) {
            const line *r = message[i], *s = is(r, RECEIVED) ? sent_of(r) : NULL;
            if (!s || when(s) <= when(r)) continue;
            if (shift[r->rank] > (int64_t)MOST_NS) return;
            shift[r->rank] += when(s) - when(r);
            moved = true;
        }
    }
}

static const char *comma = "";

static void begin(const char *ph, const char *name, const line *l, int64_t at) {
    printf("%s\n{\"ph\":\"%s\",\"name\":\"%s\",\"pid\":0,\"tid\":%" PRIu32 ",\"ts\":%.3f", comma, ph, name, l->rank,
           (double)at * 1e-3);
    comma = ",";
}

int main(int argc, char **argv) {
    const line *end = NULL;
    size_t i, arrows = 0;
    int64_t first = INT64_MAX;
    if (argc < 2 || strcmp(argv[1], "--help") == 0) {
        fputs("trace2json FILE... > run.json\nwhat flight recorders wrote, for chrome://tracing or Perfetto\n",
              argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    for (int f = 1; f < argc; f++) read_file(argv[f]);
    if (count) qsort(all, count, sizeof *all, by_time);
    pair_messages();
    end_rounds();
    align();
    for (i = 0; i < count; i++)
        if (when(&all[i]) < first) first = when(&all[i]);
    fputs("{\"traceEvents\":[", stdout);
    for (i = 0; i < count; i++) {
        const line *l = &all[i], *s;
        const int64_t at = when(l) - first;
        char name[64];
        if (i == 0 || all[i - 1].rank != l->rank) {
            size_t low = i, high = count; /* this worker's last line */
            while (high - low > 1) {
                const size_t middle = low + (high - low) / 2;
                if (all[middle].rank == l->rank)
                    low = middle;
                else
                    high = middle;
            }
            end = &all[low];
            begin("M", "thread_name", l, 0);
            printf(",\"args\":{\"name\":\"worker %" PRIu32 "\"}}", l->rank);
        }
        if (is(l, BEGUN)) {
            const line *e = l->other ? &all[l->other - 1] : end; /* it may not be over yet */
            snprintf(name, sizeof name, "round %" PRIu64 " %s", l->round, l->other ? name_of[e->what] : "not over");
            begin("X", name, l, at);
            printf(",\"dur\":%.3f,\"args\":{\"round\":%" PRIu64 "}}", (double)(e->at_ns - l->at_ns) * 1e-3, l->round);
        } else if (!is(l, COMMITTED)) {
            if (l->peer == UINT32_MAX)
                snprintf(name, sizeof name, "%s", name_of[l->what]);
            else
                snprintf(name, sizeof name, "%s %" PRIu32, name_of[l->what], l->peer);
            begin("i", name, l, at);
            printf(",\"s\":\"t\",\"args\":{\"round\":%" PRIu64 ",\"value\":%" PRIu64 ",\"phase\":\"%s\"}}", l->round,
                   l->value, l->phase ? l->phase : "");
        }
        s = is(l, RECEIVED) ? sent_of(l) : NULL;
        if (!s || when(s) > when(l)) continue; /* clocks that cannot be reconciled */
        begin("s", "message", s, when(s) - first);
        printf(",\"id\":%zu}", arrows);
        begin("f", "message", l, at);
        printf(",\"bp\":\"e\",\"id\":%zu}", arrows++);
    }
    fputs("\n]}\n", stdout);
    for (i = 0; i < count; i++) free(all[i].phase);
    free(message);
    free(all);
    return fflush(stdout) == 0 ? 0 : 1;
}
