package disk

import (
	"errors"
	"fmt"
	"os"
)

// appendFile appends data and syncs.
func appendFile(path string, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// truncateFile cuts the file to size and syncs.
func truncateFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cut torn batch: %w", err)
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}
