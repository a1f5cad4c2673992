/*
 * The terminal, by ncurses. It draws what changed only.
 */
#include <curses.h>
#include <signal.h>
#include <stdlib.h>
#include <term.h>
#include <time.h>
#include <unistd.h>

/* ncurses names its keys like this, too. */
#undef lines
#undef columns

#include "tools/top.h"

static volatile sig_atomic_t told_to_end;
static bool coloured;

static void on_signal(int number)
{
    (void)number;
    told_to_end = 1;
}

bool top_screen_able(void)
{
    int code = 0;
    const char *move;

    if (setupterm(NULL, STDOUT_FILENO, &code) != OK)
        return false;
    move = tigetstr("cup");
    return move != NULL && move != (const char *)-1;
}

static void colours_start(void)
{
    const char *none = getenv("NO_COLOR");

    coloured = (!none || !*none) && has_colors() && start_color() == OK;
    if (!coloured)
        return;
    (void)use_default_colors();
    (void)init_pair(LOOK_BAR, COLOR_GREEN, -1);
    (void)init_pair(LOOK_HEAT, COLOR_CYAN, -1);
    (void)init_pair(LOOK_WARN, COLOR_YELLOW, -1);
}

bool top_screen_open(void)
{
    struct sigaction end = { .sa_handler = on_signal };

    if (!initscr())
        return false;
    /* After initscr(), which has handlers of its own. Without SA_RESTART: they end a wait. */
    (void)sigaction(SIGINT, &end, NULL);
    (void)sigaction(SIGTERM, &end, NULL);
    (void)sigaction(SIGHUP, &end, NULL);
    (void)cbreak();
    (void)noecho();
    (void)keypad(stdscr, TRUE);
    (void)curs_set(0);
    colours_start();
    return true;
}

void top_screen_close(void)
{
    (void)endwin();
}

void top_screen_size(int *rows, int *cols)
{
    getmaxyx(stdscr, *rows, *cols);
}

static attr_t attributes(enum top_look look)
{
    switch (look) {
    case LOOK_HEAD:
        return A_BOLD;
    case LOOK_DIM:
        return A_DIM;
    case LOOK_CHOSEN:
        return A_REVERSE;
    case LOOK_BAR:
    case LOOK_HEAT:
        return coloured ? (attr_t)COLOR_PAIR(look) : A_NORMAL;
    case LOOK_WARN:
        return (coloured ? (attr_t)COLOR_PAIR(look) : A_NORMAL) | A_BOLD;
    case LOOK_PLAIN:
        break;
    }
    return A_NORMAL;
}

void top_screen_show(const struct top_frame *f)
{
    int rows, cols;

    top_screen_size(&rows, &cols);
    (void)erase();
    for (int row = 0; row < f->rows && row < rows; row++) {
        for (int col = 0; col < f->cols && col < cols; col++) {
            size_t i = (size_t)row * (size_t)f->cols + (size_t)col;

            if (f->text[i] != ' ' || f->look[i] != LOOK_PLAIN)
                (void)mvaddch(row, col,
                              (chtype)(unsigned char)f->text[i] |
                                  (chtype)attributes((enum top_look)f->look[i]));
        }
    }
    (void)refresh();
}

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static enum top_key meaning(int key)
{
    switch (key) {
    case 'q':
    case 'Q':
    case 27:
        return KEY_IS_QUIT;
    case 'p':
    case 'P':
        return KEY_IS_PAUSE;
    case '+':
        return KEY_IS_SLOWER;
    case '-':
        return KEY_IS_FASTER;
    case KEY_UP:
    case 'k':
        return KEY_IS_UP;
    case KEY_DOWN:
    case 'j':
        return KEY_IS_DOWN;
    case KEY_ENTER:
    case '\n':
    case '\r':
        return KEY_IS_CHOICE;
    case KEY_RESIZE:
        return KEY_IS_RESIZE;
    default:
        return KEY_IS_NONE;
    }
}

enum top_key top_screen_key(double wait_s)
{
    double until = now() + wait_s, left;

    while (!told_to_end && (left = until - now()) > 0) {
        int key;

        /* In parts: a signal does not end ncurses' wait everywhere. */
        timeout(left < 0.2 ? (int)(left * 1000) + 1 : 200);
        key = getch();
        /* A terminal that is gone gives nothing, at once, for ever. */
        if (key == ERR && isatty(STDIN_FILENO) == 0)
            return KEY_IS_QUIT;
        if (key != ERR && meaning(key) != KEY_IS_NONE)
            return meaning(key);
    }
    return told_to_end ? KEY_IS_QUIT : KEY_IS_NONE;
}
