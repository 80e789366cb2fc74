package chdb

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Version is the release of the library that this code was tested with, as deploy/libchdb/package.json pins it.
const Version = "26.7.3-stable.1"

// ErrNoLibrary says that the library is not where it was looked for.
var ErrNoLibrary = errors.New("libchdb was not found")

// CacheDir returns the folder that deploy/libchdb/fetch.sh takes as the user's cache: XDG_CACHE_HOME, else
// .cache in HOME, on every system. It is empty where neither is set. The caller hands in its way to read the
// environment.
func CacheDir(getenv func(string) string) string {
	if dir := getenv("XDG_CACHE_HOME"); dir != "" {
		return dir
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".cache")
	}
	return ""
}

// Locate returns the absolute path of libchdb: explicitPath where it is set, else the copy that fetch.sh put
// under cacheDir. The error wraps ErrNoLibrary and says what to do.
func Locate(explicitPath, cacheDir string) (path string, err error) {
	if explicitPath != "" {
		if err := checkLibrary(explicitPath); err != nil {
			return "", fmt.Errorf("%w: ASSENT_LIBCHDB points at %s: %w", ErrNoLibrary, explicitPath, err)
		}
		return filepath.Abs(explicitPath)
	}
	const hint = "run `make build`, which downloads it, or set ASSENT_LIBCHDB to the path of a libchdb.so " + Version
	if cacheDir == "" {
		return "", fmt.Errorf("%w: neither HOME nor XDG_CACHE_HOME is set; %s", ErrNoLibrary, hint)
	}
	path = filepath.Join(cacheDir, "assent", "libchdb", Version, "libchdb.so")
	if err := checkLibrary(path); err != nil {
		return "", fmt.Errorf("%w: %w; %s", ErrNoLibrary, err, hint)
	}
	return filepath.Abs(path)
}

func checkLibrary(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", path)
	case info.Size() == 0:
		return fmt.Errorf("%s is empty", path)
	}
	return nil
}
