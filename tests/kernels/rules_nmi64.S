/* Of the events, NMIs alone: QEMU's SVM doesn't survive them. */
#define RULES_NMI
#include "tests/kernels/rules_events64.S"
