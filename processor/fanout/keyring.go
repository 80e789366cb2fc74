package fanout

import (
	"fmt"
	"sync"
	"time"

	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/internal/webhook"
)

// keysFresh is how long resolved secrets are used before they are read again: a
// rotated file counts within this time.
const keysFresh = 10 * time.Second

// keyring resolves a downstream's secrets.
type keyring struct {
	refs    []registry.SecretRef
	resolve registry.Secrets

	mu   sync.Mutex
	keys []webhook.Key
	at   time.Time
}

// current gives the keys; the error names the reference that cannot be resolved.
func (k *keyring) current(now time.Time) ([]webhook.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys != nil && now.Sub(k.at) < keysFresh {
		return k.keys, nil
	}
	keys := make([]webhook.Key, 0, len(k.refs))
	for _, ref := range k.refs {
		text, err := k.resolve(ref)
		if err != nil {
			return nil, err
		}
		key, err := webhook.ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", ref, err)
		}
		keys = append(keys, key)
	}
	k.keys, k.at = keys, now
	return keys, nil
}
