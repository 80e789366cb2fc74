package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
)

//go:embed patches/*.patch
var patches embed.FS

// atOnce is how many mutants run at a time: their tests wait more than they work.
const atOnce = 2

func main() {
	list := flag.Bool("list", false, "print what there is, and run nothing")
	flag.Parse()
	if err := run(context.Background(), os.Stdout, *list, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// run tries the mutants whose name holds one of the words, or lists them. Its error
// names all that were not caught.
func run(ctx context.Context, out io.Writer, list bool, words []string) error {
	all, err := read(patches)
	if err != nil {
		return err
	}
	var chosen []*mutant
	for _, m := range all {
		if m.named(words) {
			chosen = append(chosen, m)
		}
	}
	switch {
	case len(chosen) == 0:
		return fmt.Errorf("no patch has a name with %s in it: see -list", strings.Join(words, " or "))
	case list:
		for _, m := range chosen {
			fmt.Fprintf(out, "%-34s %s\n%-34s %s\n", m.name, m.mechanism, "", strings.Join(m.test, " "))
		}
		return nil
	}
	return tryAll(ctx, out, chosen)
}

// read reads every patch. A fault in one of them is an error, whichever are chosen.
func read(from fs.FS) ([]*mutant, error) {
	names, err := fs.Glob(from, "patches/*.patch")
	if err != nil {
		return nil, err
	}
	var all []*mutant
	var faults []error
	for _, name := range names {
		text, err := fs.ReadFile(from, name)
		if err != nil {
			return nil, err
		}
		m, err := parse(name, text)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		all = append(all, m)
	}
	return all, errors.Join(faults...)
}

// tryAll tries each mutant in one of the copies of the tree, once its test has passed
// without it.
func tryAll(ctx context.Context, out io.Writer, chosen []*mutant) error {
	began := time.Now()
	trees, err := copies(ctx, min(atOnce, len(chosen)))
	for _, tree := range trees {
		defer os.RemoveAll(tree) //nolint:errcheck // what is left is in the system's folder for such things
	}
	if err != nil {
		return err
	}
	var mu sync.Mutex                 // of what follows, and of out
	unsound := make(map[string]error) // by package and test
	var missed []error
	suites := suitesOf(chosen)
	spread(ctx, trees, suites, func(tree string, s suite) {
		faults := s.unsound(ctx, tree)
		mu.Lock()
		defer mu.Unlock()
		for name, fault := range faults {
			unsound[s.pkg+name] = fault
		}
	})
	fmt.Fprintf(out, "without a mutant the tests of %d packages ran for %s\n", len(suites), time.Since(began).Round(time.Second))
	spread(ctx, trees, chosen, func(tree string, m *mutant) {
		began := time.Now()
		fault := unsound[m.pkg()+m.testName()]
		if fault == nil {
			fault = m.try(ctx, tree)
		}
		mu.Lock()
		defer mu.Unlock()
		verdict := "caught"
		if fault != nil {
			verdict = "NOT CAUGHT: " + fault.Error()
			why, _, _ := strings.Cut(fault.Error(), "\n") // the rest stands above
			missed = append(missed, fmt.Errorf("%s: %s", m.name, why))
		}
		fmt.Fprintf(out, "%-34s %s\n%-34s by %s (%.0f s): %s\n", m.name, m.mechanism, "", m.testName(), time.Since(began).Seconds(), verdict)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fmt.Fprintf(out, "%d of %d mutants were caught, in %s\n", len(chosen)-len(missed), len(chosen), time.Since(began).Round(time.Second))
	return errors.Join(missed...)
}

// copies makes copies of the tree. Those that were made are given with an error too.
func copies(ctx context.Context, n int) (trees []string, err error) {
	for range n {
		tree, err := os.MkdirTemp("", "assent-mutants-")
		if err != nil {
			return trees, err
		}
		trees = append(trees, tree)
		if err := copyTree(ctx, tree); err != nil {
			return trees, err
		}
	}
	return trees, nil
}

// spread does all items, one at a time in each tree.
func spread[T any](ctx context.Context, trees []string, items []T, do func(tree string, item T)) {
	todo := make(chan T)
	var workers sync.WaitGroup
	for _, tree := range trees {
		workers.Go(func() {
			for item := range todo {
				if ctx.Err() == nil {
					do(tree, item)
				}
			}
		})
	}
	for _, item := range items {
		todo <- item
	}
	close(todo)
	workers.Wait()
}
