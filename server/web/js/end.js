// The end of the page, where a reader who follows an answer is.

const NEAR = 64; // pixels

const page = document.scrollingElement;
let atEnd = true;

addEventListener("scroll", () => {
  atEnd = page.scrollHeight - page.scrollTop - page.clientHeight < NEAR;
});

export function goToTheEnd() {
  page.scrollTop = page.scrollHeight;
}

/** Keeps a reader at the end while these grow. One who has scrolled away is left alone. */
export function stayAtTheEnd(...elements) {
  const observer = new ResizeObserver(() => {
    if (atEnd) goToTheEnd();
  });
  elements.forEach((element) => observer.observe(element));
}
