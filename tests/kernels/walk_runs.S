/* walk.inc's tables, and 16 more from 0x7ffd10000000 on whose every other page is present. */
#define WALK_SHIFT 12
#define WALK_RUNS
#include "tests/kernels/walk.inc"
