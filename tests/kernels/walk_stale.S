/* walk.inc's address; when it was read for a while its entry leads elsewhere, and nothing is flushed. */
#define WALK_SHIFT 12
#define WALK_READS
#define WALK_STALE
#include "tests/kernels/walk.inc"
