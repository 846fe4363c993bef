/* SPDX-License-Identifier: MIT */
#define _POSIX_C_SOURCE 200809L
#include "options.h"

#include "model.h"
#include "train/rng.h"
#include "train/util.h"
#include "train/values.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const RULE_NAME[RULES] = {"single", "mean", "subspace", "hpsgd"};

/* (In parts: C promises no longer strings.) */
static const char USAGE[] =
    "usage: llm [options]\n"
    "Trains a small transformer on the characters of a text, with several processes that learn together over TCP, by\n"
    "one rule after the other, each with the same samples, and compares them.\n"
    "\n"
    "  --data FILE           any text; without it: sentences that the program makes itself\n"
    "  --algorithm NAME,...  single (one worker, all samples), mean (of the workers' gradients), subspace (AdaCons in\n"
    "                        place of the mean), hpsgd (models are summed up while training goes on); default: all\n"
    "  --workers N           so many processes on this machine (2)\n"
    "  --peers LIST          or on several: host:port of each worker, with commas between, in the order of their "
    "ranks\n"
    "  --rank N              and which of them this is; all have the same other options, and the same text\n"
    "  --tls DIR             encrypted, and only among workers who have a certificate: DIR holds authority.pem,\n"
    "                        rank-N.pem and rank-N.key, as examples/transports/certificates makes them\n"
    "  --plaintext-on-any-network   other addresses than this machine's own, though nothing is encrypted\n"
    "  --steps N             (600)\n"
    "  --batch N             samples a step, of all workers together (32)\n"
    "  --lr X                learning rate at its highest: it rises over the first twentieth, then falls to 0 (0.008)\n"
    "  --weight-decay X      (0.01)\n";
static const char USAGE_MORE[] =
    "  --layers N            blocks of the transformer (2)\n"
    "  --width N             (64)\n"
    "  --heads N             (4)\n"
    "  --context N           characters that it looks back at (64)\n"
    "  --subspace-momentum X average of subspace's weights over steps, 0 (none) to below 1 (0.99)\n"
    "  --beta X              hpsgd: how much of its own change that is still under way a worker goes on with, 0 to 1\n"
    "                        (0.5)\n"
    "  --phase N             hpsgd: local steps of a round (4)\n"
    "  --seed N              the same seed gives the same losses (1)\n"
    "  --every N             steps from one look at the validation loss to the next (a twentieth of all)\n"
    "  --generate N          at the end so many characters by the last rule's model\n"
    "  --csv FILE            every look as a line of numbers\n"
    "  --svg FILE            validation loss against samples\n"
    "  --help\n";

static void rules(const char *text, bool run[RULES]) {
    memset(run, 0, RULES * sizeof *run);
    for (;;) {
        const size_t length = strcspn(text, ",");
        if (length == 3 && strncmp(text, "all", 3) == 0)
            for (int i = 0; i < RULES; i++) run[i] = true;
        else
            run[value_name("--algorithm", text, length, RULE_NAME, RULES, "single, mean, subspace, hpsgd or all")] =
                true;
        if (!text[length]) return;
        text += length + 1;
    }
}

static void peers(options *o, const char *text) {
    const size_t n = strlen(text) + 1;
    o->peers = new_array(n, 1);
    memcpy(o->peers, text, n);
    o->workers = 1;
    for (; *text; text++) o->workers += *text == ',';
    if (o->workers > MAX_WORKERS) bad_input("--peers: expected at most %d workers, got %zu", MAX_WORKERS, o->workers);
}

static void check(const options *o, bool has_workers, bool has_rank) {
    if (o->width % o->heads) bad_input("--width: expected a multiple of --heads (%zu), got %zu", o->heads, o->width);
    if (o->peers && has_workers) bad_input("--workers starts processes here, --peers says where they are: one of them");
    if (!o->peers != !has_rank) bad_input("--peers and --rank: expected both of them, or none");
    if ((o->tls || o->plaintext) && !o->peers)
        bad_input("%s: expected --peers beside it", o->tls ? "--tls" : "--plaintext-on-any-network");
    if (o->rank >= o->workers)
        bad_input("--rank: expected a number below %zu, the workers in --peers, got %zu", o->workers, o->rank);
    if (o->batch % o->workers)
        bad_input("--batch: expected a multiple of the number of workers (%zu), got %zu", o->workers, o->batch);
    value_can_write("--csv", o->csv);
    value_can_write("--svg", o->svg);
}

void options_parse(options *o, int argc, char **argv) {
    bool has_workers = false, has_rank = false;
    memset(o, 0, sizeof *o);
    rules("all", o->run);
    o->workers = 2;
    o->steps = 600;
    o->batch = 32;
    o->rate = 0.008;
    o->decay = 0.01;
    o->layers = 2;
    o->width = 64;
    o->heads = 4;
    o->context = 64;
    o->subspace_momentum = 0.99;
    o->beta = 0.5;
    o->phase = 4;
    o->seed = 1;
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
#define IS(name_) (strcmp(option, (name_)) == 0)
        if (IS("--help")) {
            fputs(USAGE, stdout);
            fputs(USAGE_MORE, stdout);
            exit(EXIT_SUCCESS);
        }
        if (IS("--plaintext-on-any-network")) {
            o->plaintext = true;
            continue;
        }
        if (strncmp(option, "--", 2) != 0) bad_input("expected an option, got '%s' (--help lists them)", option);
        const char *v = i + 1 < argc ? argv[++i] : NULL;
        /* clang-format off */
        if (!v) bad_input("%s: unknown, or a value is missing (--help lists the options)", option);
        else if (IS("--data")) o->data = v;
        else if (IS("--algorithm")) rules(v, o->run);
        else if (IS("--workers")) { o->workers = value_count(option, v, 1, MAX_WORKERS); has_workers = true; }
        else if (IS("--peers")) peers(o, v);
        else if (IS("--rank")) { o->rank = value_count(option, v, 0, MAX_WORKERS - 1); has_rank = true; }
        else if (IS("--tls")) o->tls = v;
        else if (IS("--steps")) o->steps = value_count(option, v, 1, 100000000);
        else if (IS("--batch")) o->batch = value_count(option, v, 1, 65536);
        else if (IS("--lr")) o->rate = value_above_zero(option, v, 1.0);
        else if (IS("--weight-decay")) o->decay = value_number(option, v, 0.0, 1.0);
        else if (IS("--layers")) o->layers = value_count(option, v, 1, MODEL_LAYERS);
        else if (IS("--width")) o->width = value_count(option, v, 1, 4096);
        else if (IS("--heads")) o->heads = value_count(option, v, 1, 256);
        else if (IS("--context")) o->context = value_count(option, v, 1, 4096);
        else if (IS("--subspace-momentum")) o->subspace_momentum = value_number(option, v, 0.0, 0.999999);
        else if (IS("--beta")) o->beta = value_number(option, v, 0.0, 1.0);
        else if (IS("--phase")) o->phase = value_count(option, v, 1, 1000000);
        else if (IS("--seed")) o->seed = value_whole(option, v, 0, UINT64_MAX);
        else if (IS("--every")) o->every = value_count(option, v, 1, 100000000);
        else if (IS("--generate")) o->generate = value_count(option, v, 0, 1000000);
        else if (IS("--csv")) o->csv = v;
        else if (IS("--svg")) o->svg = v;
        else bad_input("%s: no such option (--help lists them)", option);
        /* clang-format on */
    }
    if (!o->every) o->every = o->steps > 20 ? o->steps / 20 : 1;
    check(o, has_workers, has_rank);
    o->launch = !o->peers && o->workers > 1 && (o->run[RULE_MEAN] || o->run[RULE_SUBSPACE] || o->run[RULE_HPSGD]);
}

uint64_t options_hash(const options *o) {
    const double number[] = {o->rate, o->decay, o->subspace_momentum, o->beta};
    const uint64_t whole[] = {o->workers, o->layers, o->width, o->heads, o->context,
                              o->steps,   o->batch,  o->every, o->phase, o->seed};
    uint64_t h = 0, bits;
    for (size_t i = 0; i < RULES; i++) h = rng_mix(h + o->run[i]);
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) h = rng_mix(h + whole[i] + 1);
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        memcpy(&bits, &number[i], sizeof bits);
        h = rng_mix(h + bits + 1);
    }
    return h;
}
