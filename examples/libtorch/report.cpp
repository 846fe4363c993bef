/* SPDX-License-Identifier: MIT */
#include "report.h"

#include "c.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

void report_table(const std::vector<Run> &runs) {
    std::puts("rule      workers  test accuracy  test loss  seconds  MB sent by a worker  different models");
    for (const Run &r : runs) {
        const Look &l = r.look.back();
        std::printf("%-8s  %7zu  %11.1f %%  %9.4f  %7.1f  %19.2f  %16zu\n", RULE_NAME[r.rule], r.workers,
                    100.0 * l.test_accuracy, l.test_loss, l.seconds, (double)l.bytes * 1e-6, l.models);
    }
    std::fflush(stdout);
}

void report_csv(const char *file, const std::vector<Run> &runs) {
    FILE *out = std::fopen(file, "w");
    if (!out) bad_input("%s: %s", file, std::strerror(errno));
    std::fputs("rule,workers,samples,train_loss,test_loss,test_accuracy,seconds,bytes_sent,models\n", out);
    for (const Run &r : runs)
        for (const Look &l : r.look)
            std::fprintf(out, "%s,%zu,%llu,%.17g,%.17g,%.6f,%.6f,%llu,%zu\n", RULE_NAME[r.rule], r.workers,
                         (unsigned long long)l.samples, l.train_loss, l.test_loss, l.test_accuracy, l.seconds,
                         (unsigned long long)l.bytes, l.models);
    const int failed = std::ferror(out);
    if (std::fclose(out) != 0 || failed) bad_input("%s: %s", file, std::strerror(errno));
}

void report_picture(const char *file, const char *title, const std::vector<Run> &runs) {
    std::vector<std::vector<double>> x(runs.size()), y(runs.size());
    std::vector<plot_series> series;
    for (size_t i = 0; i < runs.size(); i++) {
        for (const Look &l : runs[i].look) {
            x[i].push_back((double)l.samples);
            y[i].push_back(100.0 * l.test_accuracy);
        }
        series.push_back(
            {RULE_NAME[runs[i].rule], 1 + (int)runs[i].rule, runs[i].look.size(), x[i].data(), y[i].data()});
    }
    plot_panel panel = {};
    panel.x_label = "samples, all workers together";
    panel.y_label = "test accuracy, %";
    panel.count = series.size();
    panel.series = series.data();
    plot_panels(file, title, 1, &panel);
}
