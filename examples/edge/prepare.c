/* SPDX-License-Identifier: MIT
 * prepare.c: spoken digits as what the two boards carry in their flash. Runs on the host:
 *
 *     prepare FOLDER [RECORDINGS]      writes FOLDER/data-0.h and FOLDER/data-1.h
 *
 * RECORDINGS: WAV files DIGIT_SPEAKER_INDEX.wav of the Free Spoken Digit Dataset (8 kHz, mono, 16 bits). Without them
 * the program speaks the digits itself: two formants that glide, a voice's pitch, noise, in six voices. Of each
 * recording FRAMES parts of equal length are described by the logarithms of BANDS energies, in steps of 1/16 of a
 * natural logarithm less their mean. Three speakers are node 0's and three are node 1's; recordings 0 to 4 of all six
 * are the test set of both. */
#include "sound.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RATE = 8000, WINDOW = 256, HOP = 128, LONGEST = 1 << 16, SPEAKERS = 6, TESTED = 5, MOST = 6000 };

typedef struct sample {
    int digit, speaker, index;
    signed char x[FEATURES];
} sample;

static sample all[MOST];
static int samples;
static char speaker_name[SPEAKERS][32];
static int speakers;

static void fail(const char *what, const char *which) {
    fprintf(stderr, "prepare: %s: %s\n", which, what);
    exit(2);
}

/* ---- Features ---- */

static double mel(double hz) {
    return 2595.0 * log10(1.0 + hz / 700.0);
}

/* Which band the k-th frequency of a window counts for, or -1. */
static int band_of(int k) {
    const double low = mel(120), high = mel(3800), at = mel((double)k * RATE / WINDOW);
    const int b = (int)floor((at - low) / (high - low) * BANDS);
    return at < low || b >= BANDS ? -1 : b;
}

static void describe(const short *pcm, int n, signed char *x) {
    static double cosine[WINDOW], hann[WINDOW];
    static int band[WINDOW / 2];
    double e[FEATURES] = {0}, mean = 0;
    int i, k, at;
    if (hann[1] == 0)
        for (i = 0; i < WINDOW; i++) {
            cosine[i] = cos(2 * 3.14159265358979323846 * i / WINDOW);
            hann[i] = 0.5 - 0.5 * cosine[i];
            if (i < WINDOW / 2) band[i] = band_of(i);
        }
    for (at = 0; at == 0 || at + WINDOW <= n; at += HOP) {
        const int frame = n > WINDOW ? (int)((long)at * FRAMES / (n - WINDOW + 1)) : 0;
        for (k = 1; k < WINDOW / 2; k++) {
            double re = 0, im = 0;
            if (band[k] < 0) continue;
            for (i = 0; i < WINDOW && at + i < n; i++) {
                re += hann[i] * pcm[at + i] * cosine[i * k % WINDOW];
                im += hann[i] * pcm[at + i] * cosine[(i * k + WINDOW / 4) % WINDOW];
            }
            e[frame * BANDS + band[k]] += re * re + im * im;
        }
    }
    for (i = 0; i < FEATURES; i++) mean += (e[i] = log(e[i] + 1e6)) / FEATURES;
    for (i = 0; i < FEATURES; i++) {
        const double q = floor((e[i] - mean) * 16 + 0.5);
        x[i] = (signed char)(q > 127 ? 127 : q < -127 ? -127 : q);
    }
}

static void add(int digit, int speaker, int index, const short *pcm, int n) {
    sample *s = &all[samples++];
    s->digit = digit;
    s->speaker = speaker;
    s->index = index;
    describe(pcm, n, s->x);
}

/* ---- Recordings ---- */

static unsigned long little(const unsigned char *p, int bytes) {
    unsigned long v = 0;
    while (bytes--) v = v << 8 | p[bytes];
    return v;
}

/* The samples of a file, as far as there is room; every length in it is looked at before it is believed. */
static int read_wav(const char *path, short *pcm) {
    static unsigned char b[2 * LONGEST + 4096];
    FILE *f = fopen(path, "rb");
    size_t n, at = 12, length;
    int i, format = 0;
    if (!f) fail(strerror(errno), path);
    n = fread(b, 1, sizeof b, f);
    fclose(f);
    if (n < 12 || memcmp(b, "RIFF", 4) != 0 || memcmp(b + 8, "WAVE", 4) != 0) fail("no WAV file", path);
    for (;;) {
        if (n - at < 8) fail("a WAV file without samples", path);
        length = little(b + at + 4, 4);
        if (memcmp(b + at, "data", 4) == 0) break;
        if (length > n - at - 8 || length + (length & 1) > n - at - 8) fail("a part is longer than the WAV file", path);
        if (memcmp(b + at, "fmt ", 4) == 0) {
            if (length < 16 || little(b + at + 8, 2) != 1 || little(b + at + 10, 2) != 1 ||
                little(b + at + 12, 4) != RATE || little(b + at + 22, 2) != 16)
                fail("not 8 kHz, one channel, 16 bits", path);
            format = 1;
        }
        at += 8 + length + (length & 1);
    }
    if (!format) fail("samples without a format", path);
    at += 8;
    if (length > n - at) fail("fewer samples than the WAV file says", path);
    length /= 2;
    if (length < WINDOW || length > LONGEST) fail("too short or too long", path);
    for (i = 0; i < (int)length; i++) {
        const int v = (int)little(b + at + 2 * (size_t)i, 2);
        pcm[i] = (short)(v < 32768 ? v : v - 65536);
    }
    return (int)length;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void read_recordings(const char *folder) {
    static short pcm[LONGEST];
    static char *name[MOST];
    DIR *d = opendir(folder);
    struct dirent *e;
    int names = 0, i, s;
    if (!d) fail(strerror(errno), folder);
    while ((e = readdir(d)) != NULL) {
        const size_t n = strlen(e->d_name);
        if (n < 9 || strcmp(e->d_name + n - 4, ".wav") != 0 || !isdigit((unsigned char)e->d_name[0])) continue;
        if (names == MOST) fail("more recordings than there is room for", folder);
        if (!(name[names++] = strdup(e->d_name))) fail("no memory", folder);
    }
    closedir(d);
    qsort(name, (size_t)names, sizeof *name, compare_names); /* folders have no order */
    for (i = 0; i < names; i++) {
        char path[4096], who[32];
        int digit, index;
        if (sscanf(name[i], "%1d_%31[a-z]_%d.wav", &digit, who, &index) != 3)
            fail("no DIGIT_SPEAKER_INDEX.wav", name[i]);
        for (s = 0; s < speakers && strcmp(speaker_name[s], who) != 0; s++) continue;
        if (s == SPEAKERS) fail("more than six speakers", folder);
        if (s == speakers) strcpy(speaker_name[speakers++], who);
        if (snprintf(path, sizeof path, "%s/%s", folder, name[i]) >= (int)sizeof path) fail("a path too long", folder);
        add(digit, s, index, pcm, read_wav(path, pcm));
        free(name[i]);
    }
    if (speakers != SPEAKERS) fail("not the recordings of six speakers", folder);
}

/* ---- A voice of its own ---- */

static unsigned long long state = 1;
static double draw(void) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(state >> 40) / (1 << 24);
}

/* First and second formant at the beginning and at the end, in Hz, and how much of the sound is noise at first. */
static const double formant[10][5] = {
    {300, 1900, 480, 900, 0.5},  {560, 900, 350, 1700, 0.1},  {320, 2100, 300, 850, 0.6},  {420, 1500, 290, 2250, 0.5},
    {480, 850, 560, 1050, 0.4},  {700, 1300, 330, 2000, 0.3}, {390, 1950, 380, 1300, 0.9}, {530, 1750, 520, 1500, 0.5},
    {520, 1900, 320, 2150, 0.0}, {700, 1200, 330, 1950, 0.15}};

static void speak(int digit, int speaker, int index) {
    static short pcm[LONGEST];
    const double *f = formant[digit], pitch = (90 + 28 * speaker) * (0.95 + 0.1 * draw());
    const double tract = 0.86 + 0.055 * speaker + 0.02 * draw(), haste = 0.8 + 0.4 * draw();
    const int n = (int)(RATE * 0.38 * haste);
    double y[2][2] = {{0}}, phase = 0;
    int i, k;
    for (i = 0; i < n; i++) {
        const double t = (double)i / n, swell = sin(3.14159265358979323846 * t);
        double x, sum = 0;
        phase += pitch * (1.1 - 0.2 * t) / RATE;
        x = phase >= 1 ? 1.0 : 0.0;
        if (phase >= 1) phase -= 1;
        x += (draw() - 0.5) * (0.08 + 0.5 * f[4] * (t < 0.3));
        for (k = 0; k < 2; k++) {
            const double hz = tract * (f[k] + (f[2 + k] - f[k]) * t) * (0.97 + 0.06 * draw());
            const double r = 0.96, a = 2 * r * cos(2 * 3.14159265358979323846 * hz / RATE);
            const double out = x + a * y[k][0] - r * r * y[k][1];
            y[k][1] = y[k][0];
            y[k][0] = out;
            sum += out / (k + 1);
        }
        sum = 900 * swell * sum + 150 * (draw() - 0.5);
        pcm[i] = (short)(sum > 32767 ? 32767 : sum < -32767 ? -32767 : sum);
    }
    add(digit, speaker, index, pcm, n);
}

/* ---- What the boards include ---- */

static void write_set(FILE *out, const char *what, int node) {
    int i, k, n = 0;
    fprintf(out, "static const signed char %s_x[][%d] = {\n", what, FEATURES);
    for (i = 0; i < samples; i++) {
        const int test = all[i].index < TESTED;
        if (node < 0 ? !test : test || all[i].speaker * 2 / SPEAKERS != node) continue;
        for (k = 0; k < FEATURES; k++) fprintf(out, "%s%d", k ? "," : "    {", all[i].x[k]);
        fprintf(out, "},\n");
        n++;
    }
    fprintf(out, "};\nstatic const unsigned char %s_y[] = {", what);
    for (i = 0; i < samples; i++) {
        const int test = all[i].index < TESTED;
        if (node < 0 ? !test : test || all[i].speaker * 2 / SPEAKERS != node) continue;
        fprintf(out, "%d,", all[i].digit);
    }
    fprintf(out, "};\nenum { %s_samples = %d };\n", what, n);
    if (!n) fail("no samples", what);
}

int main(int argc, char **argv) {
    int node, i, k;
    if (argc < 2 || argc > 3 || argv[1][0] == '-') {
        fprintf(stderr, "usage: prepare FOLDER [RECORDINGS]\n");
        return 2;
    }
    if (argc == 3) {
        read_recordings(argv[2]);
    } else {
        for (k = 0; k < SPEAKERS; k++) snprintf(speaker_name[speakers++], 32, "voice %d", k);
        for (i = 0; i < 10 * SPEAKERS * 20; i++) speak(i % 10, i / 10 % SPEAKERS, i / 10 / SPEAKERS);
    }
    for (node = 0; node < 2; node++) {
        char path[4096];
        FILE *out;
        if (snprintf(path, sizeof path, "%s/data-%d.h", argv[1], node) >= (int)sizeof path)
            fail("a path too long", argv[1]);
        out = fopen(path, "w");
        if (!out) fail(strerror(errno), path);
        fprintf(out, "/* made by prepare: %s */\n", argc == 3 ? "recordings" : "drawn voices");
        write_set(out, "train", node);
        write_set(out, "test", -1);
        if (fclose(out) != 0) fail("cannot be written", path);
    }
    printf("%d %s of", samples, argc == 3 ? "recordings" : "drawn sounds");
    for (k = 0; k < SPEAKERS; k++) printf("%s %s", k == 3 ? " (node 0)," : k ? "," : "", speaker_name[k]);
    printf(" (node 1)\n");
    return 0;
}
