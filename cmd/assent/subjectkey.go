package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/assent-dev/assent/internal/embedded/datadir"
	"github.com/assent-dev/assent/producer/intake"
)

// fingerprintFile tells which subject key the data beside it was written under. It
// is not in keys/: where that folder is lost, it has to be there still.
const fingerprintFile = "subject-key.fingerprint"

// otherKey is what is at stake.
const otherKey = "under another key an address has another id: what was withdrawn for it would not be found, and could be allowed"

// upSubjects takes the subject key from the settings, else from the data
// directory, where it is made if nothing was written yet. A key that the data was not
// written under is refused.
//
// The engines start behind it, so that there is no data without a fingerprint. A
// crash between the two files leaves a key that the next start takes.
func upSubjects(s *upSettings, dir *datadir.Dir) (*intake.Pseudonymiser, error) {
	path := dir.Path(fingerprintFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the fingerprint of the subject key: %w", err)
	}
	known := err == nil
	key, err := upKey(s, dir, known)
	if err != nil {
		return nil, err
	}
	switch fingerprint := key.Fingerprint(); {
	case !known:
		if err := datadir.WriteFile(path, []byte(fingerprint+"\n")); err != nil {
			return nil, fmt.Errorf("write the fingerprint of the subject key: %w", err)
		}
	case strings.TrimSpace(string(text)) != fingerprint:
		return nil, usagef("%s is not the key that the data in %s was written under (%s): %s. %s",
			keyPlace(s), s.Data.Dir, fingerprintFile, mendKey(s), otherKey)
	}
	return intake.NewPseudonymiser(key), nil
}

// upKey finds the key; it makes one where there is neither data nor the fingerprint
// of a key that is known.
func upKey(s *upSettings, dir *datadir.Dir, known bool) (intake.Key, error) {
	path := s.Data.subjectKeyFile()
	kept, err := intake.LoadKey(path)
	if s.SubjectKey.Key != "" {
		key, parseErr := intake.ParseKey(s.SubjectKey.Key)
		if parseErr == nil && err == nil && !known && key != kept {
			return key, usagef("ASSENT_SUBJECT_KEY is another key than that in %s, and nothing tells which of them the data in %s was written under: "+
				"unset it, or move the file away. %s", path, s.Data.Dir, otherKey)
		}
		return key, parseErr
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return kept, err
	}
	written, err := hasData(dir)
	switch {
	case err != nil:
		return kept, err
	case known || written:
		return kept, usagef("the data in %s was written under a subject key, and %s is not there: %s. %s", s.Data.Dir, path, mendKey(s), otherKey)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return kept, fmt.Errorf("make the folder of the subject key: %w", err)
	}
	return intake.LoadOrCreateKey(path)
}

// hasData tells whether an engine or a role has ever written to the directory.
func hasData(dir *datadir.Dir) (bool, error) {
	for _, name := range []string{kafkaFolder, clickhouseFolder, stateFolder} {
		entries, err := os.ReadDir(dir.Path(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("look for data: %w", err)
		}
		if len(entries) > 0 {
			return true, nil
		}
	}
	return false, nil
}

func keyPlace(s *upSettings) string {
	if s.SubjectKey.Key != "" {
		return "ASSENT_SUBJECT_KEY"
	}
	return s.Data.subjectKeyFile()
}

// mendKey says how the right key comes back.
func mendKey(s *upSettings) string {
	if s.SubjectKey.Key != "" {
		return "set it to the key that was used, or unset it if " + s.Data.subjectKeyFile() + " holds that"
	}
	return "restore keys/ from a copy, or set ASSENT_SUBJECT_KEY to the key that was used"
}
