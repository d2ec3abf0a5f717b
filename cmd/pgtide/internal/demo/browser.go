package demo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"
)

// posts is how many forms the browser sends.
const posts = 10

// tellBrowser posts forms, follows the redirect and looks at the page, as a
// browser does.
func (d *Demo) tellBrowser(ctx context.Context) error {
	jar, _ := cookiejar.New(nil) // it has no error to return
	browser := &http.Client{Jar: jar, Timeout: 15 * time.Second}
	seen, missed := 0, 0
	for n := range posts {
		text := fmt.Sprintf("form %d", n)
		page, err := post(ctx, browser, d.api.url, text)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			d.story.expect("http_redirect", "a browser that posts a form is shown its message", false, "%v", err)
			return nil
		}
		ours, naive, _ := strings.Cut(page, "Through a naive router")
		if strings.Contains(ours, ">"+text+"<") {
			seen++
		}
		if !strings.Contains(naive, ">"+text+"<") {
			missed++
		}
	}
	d.story.expect("http_redirect", "a browser that posts a form and is redirected to the page sees its message there",
		seen == posts, "%d of %d times; the naive router would have missed it %d times", seen, posts, missed)
	return nil
}

// post sends the form and returns the page that the browser ends on.
func post(ctx context.Context, browser *http.Client, address, text string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/", strings.NewReader(url.Values{"text": {text}}.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := browser.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK || resp.Request.Method != http.MethodGet {
		return "", fmt.Errorf("the form ended with %s %s: %s", resp.Request.Method, resp.Request.URL.Path, resp.Status)
	}
	return string(page), nil
}
