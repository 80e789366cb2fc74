package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	apiTimeout      = 40 * time.Second
	maxAnswerBytes  = 64 << 20
	contentTypeJSON = "application/json"
)

// ask sends one request to a running Assent, and gives the body of its answer.
// A problem becomes an error with its sentences.
func (p *program) ask(ctx context.Context, method, url string, body []byte, header http.Header) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", contentTypeJSON)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w; is it running, and is --url right?", req.URL.Host, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", req.URL.Host, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, problemError(resp.StatusCode, answer)
	}
	return answer, nil
}

func problemError(status int, body []byte) error {
	var problem struct {
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Errors []struct {
			Code    string `json:"code"`
			Field   string `json:"field"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &problem) != nil || problem.Title == "" {
		return fmt.Errorf("answered %d %s", status, http.StatusText(status))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "answered %d %s", status, problem.Title)
	if problem.Detail != "" {
		fmt.Fprintf(&b, ": %s", problem.Detail)
	}
	for _, e := range problem.Errors {
		fmt.Fprintf(&b, "\n  %s (%s): %s", e.Code, e.Field, e.Message)
	}
	return fmt.Errorf("%s", b.String())
}
